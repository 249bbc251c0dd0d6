-- carry: a listener's word that an account carries its feed, and that the lines of these symbols live.
-- KEYS  1 engine:epoch  2 feed:{market}  3 carriers:{market}
-- ARGV  1 epoch  2 listener  3 account, or '' to ask alone  4 how long the word of another lasts, us
--       then for each line: how long ago it was proven, us, how many symbols it carries, the symbols
-- Reply a flat list: each other listener and its account
-- By this server's clock: those of hosts may differ.
local now, others = now_us(), {}
for n, text in ipairs(redis.call('HGETALL', KEYS[3])) do
  if n % 2 == 1 then
    others[#others + 1] = text
  else
    local account, at = string.match(text, '^(%d+) (%d+)$')
    if others[#others] == ARGV[2] or now - tonumber(at) > tonumber(ARGV[4]) then
      others[#others] = nil
    else
      others[#others + 1] = account
    end
  end
end
if ARGV[3] == '' then return others end

redis.call('HSET', KEYS[3], ARGV[2], ARGV[3] .. string.format(' %d', now))
local i = 5
while i <= #ARGV do
  local at = string.format('%d', now - tonumber(ARGV[i]))
  local last = i + 1 + tonumber(ARGV[i + 1])
  for n = i + 2, last do redis.call('HSET', KEYS[2], ARGV[n], at) end
  i = last + 1
end
-- What is stale tells since when: kept for as long as anybody may ask.
redis.call('EXPIRE', KEYS[2], 172800)
return others
