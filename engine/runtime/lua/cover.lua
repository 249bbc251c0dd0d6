-- cover: write what an account holds into each of its runs, for the exits to be measured by.
-- KEYS  1 engine:epoch  2 account:{id}:runs
-- ARGV  1 epoch  2 when the broker was asked, us  then for each holding: "symbol product", units
-- Reply how many runs were written; a symbol that is not named is not held
local held = {}
for i = 3, #ARGV, 2 do held[ARGV[i]] = ARGV[i + 1] end
local written = 0
for _, run in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local runtime = 'runtime:' .. run
  local fields = redis.call('HMGET', runtime, 'symbol', 'strategy_id', 'net_at')
  if fields[1] and tonumber(fields[3] or '0') < tonumber(ARGV[2]) then
    local product = redis.call('HGET', 'strategy:' .. fields[2], 'product')
    redis.call('HSET', runtime, 'net_quantity', held[fields[1] .. ' ' .. product] or '0', 'net_at', ARGV[2])
    written = written + 1
  end
end
return written
