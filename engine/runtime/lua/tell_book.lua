-- tell_book: keep what the reader of an account's book found for all of its runs, or that it could not be read.
-- KEYS  1 engine:epoch  2 account:{id}:reading  3 account:{id}:book  4 account:{id}:awaits
-- ARGV  1 epoch  2 token  3 when the broker was asked, us, or '' where it could not be read
--       4 JSON {what a run's client order ids begin with: its entries as JSON}
-- Reply the runs that wait for it, flat: run, what to wake it with; none after a failure, whose reader asks again
if redis.call('HGET', KEYS[2], 'by') ~= ARGV[2] then return {} end
redis.call('HDEL', KEYS[2], 'by', 'until')
if ARGV[3] == '' then
  redis.call('HSET', KEYS[2], 'failed', '1')
  return {}
end
redis.call('HDEL', KEYS[2], 'failed')
local begun = redis.call('HMGET', KEYS[2], 'hints_before', 'begun')
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'at', ARGV[3], 'hints', begun[1], 'told', begun[2])
redis.call('DEL', KEYS[3])
for part, entries in pairs(cjson.decode(ARGV[4])) do redis.call('HSET', KEYS[3], part, entries) end
local waiting = redis.call('HGETALL', KEYS[4])
redis.call('DEL', KEYS[4])
return waiting
