-- looked: a look at a market's feeds begins; whether what it finds may be judged.
-- KEYS  1 engine:epoch  2 looked:{market}
-- ARGV  1 epoch  2 how long ago the last look may have been, us  3 how long listeners have to say what lives, us
-- Reply 1 | 0: this server was away, and what listeners heard meanwhile may not have been told yet
local now = now_us()
local of = redis.call('HMGET', KEYS[2], 'at', 'from')
local at, from = tonumber(of[1] or '0'), tonumber(of[2] or '0')
-- Where looks are far between for another reason, every second one is judged all the same.
if now < at or (now - at > tonumber(ARGV[2]) and from <= at) then
  from = now + tonumber(ARGV[3])
  redis.call('HSET', KEYS[2], 'from', string.format('%d', from))
end
redis.call('HSET', KEYS[2], 'at', string.format('%d', now))
return now >= from and 1 or 0
