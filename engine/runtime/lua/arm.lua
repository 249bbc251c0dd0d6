-- arm: create a run's live state where there is none.
-- KEYS  1 engine:epoch  2 runtime:{run}  3 tombstone:{run}  4 strategy:{id}  5 due
-- ARGV  1 epoch  2 run  3 runtime JSON  4 strategy JSON  5 due, us  6 symbol  7 record JSON
--       8 '1' to arm its stop at once: it may already hold or be buying
--       9 exchange time from which on a price under its stop concerns it, us, or ''
-- Reply 'created' | 'exists' | 'ended'
if redis.call('EXISTS', KEYS[3]) == 1 then return 'ended' end
if redis.call('EXISTS', KEYS[2]) == 1 then return 'exists' end
write_fields(KEYS[4], { set = cjson.decode(ARGV[4]) })
redis.call('PERSIST', KEYS[4])
write_fields(KEYS[2], { set = cjson.decode(ARGV[3]) })
redis.call('HSET', KEYS[2], 'epoch', epoch_n)
redis.call('ZADD', KEYS[5], ARGV[5], ARGV[2])
redis.call('SADD', 'symbols', ARGV[6])
redis.call('SADD', 'account:' .. redis.call('HGET', KEYS[2], 'account_id') .. ':runs', ARGV[2])
if ARGV[8] == '1' then
  if redis.call('HEXISTS', KEYS[2], 'latch_time') == 1 then
    redis.call('SADD', 'latched:' .. ARGV[6], ARGV[2])
  else
    redis.call('ZADD', 'symbol:' .. ARGV[6] .. ':strategies', redis.call('HGET', KEYS[2], 'stop_units'), ARGV[2])
  end
end
record(ARGV[2], ARGV[7])
if ARGV[9] ~= '' then
  redis.call('HSET', KEYS[2], 'held_since', ARGV[9])
  -- The lowest price since the store was opened: what was seen before this run was here to be latched.
  local low = redis.call('HMGET', 'low:' .. ARGV[6], 'price', 'time')
  local stop = tonumber(redis.call('HGET', KEYS[2], 'stop_units'))
  if ARGV[8] == '1' and low[1] and tonumber(low[1]) <= stop and tonumber(low[2]) >= tonumber(ARGV[9])
    and redis.call('HEXISTS', KEYS[2], 'latch_time') == 0 then
    local now = string.format('%d', now_us())
    latch(ARGV[2], ARGV[6], low[1], low[2], 'kept-low-' .. ARGV[2], now, now)
    redis.call('HINCRBY', KEYS[2], 'signal_seq', 1)
    redis.call('ZADD', KEYS[5], 'LT', now, ARGV[2])
  end
end
return 'created'
