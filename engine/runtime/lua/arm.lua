-- arm: create a run's live state where there is none.
-- KEYS  1 engine:epoch  2 runtime:{run}  3 tombstone:{run}  4 strategy:{id}  5 due
-- ARGV  1 epoch  2 run  3 runtime JSON  4 strategy JSON  5 due, us  6 symbol  7 record JSON
--       8 '1' to arm its stop at once: it may already hold or be buying
--       9 JSON of what it adds to its account's pool, see change_pool
--       10 exchange time from which on a price under its stop concerns it, us, or ''
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
change_pool('account:' .. redis.call('HGET', KEYS[2], 'account_id'), cjson.decode(ARGV[9]))
record(ARGV[2], ARGV[7])
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[2], 'first_fill_at', ARGV[10])
  -- What was seen before this run was here to be latched: the lowest price since the store was opened, and the last.
  local low = redis.call('HMGET', 'low:' .. ARGV[6], 'price', 'time')
  local last = redis.call('HMGET', 'price:' .. ARGV[6], 'price', 'time', 'traded_at')
  local stop = tonumber(redis.call('HGET', KEYS[2], 'stop_units'))
  local is_latched = redis.call('HEXISTS', KEYS[2], 'latch_time') == 1
  for _, seen in ipairs({ { low[1], low[2] }, { last[1], last[3] or last[2] } }) do
    local is_breach = seen[1] and tonumber(seen[1]) <= stop and tonumber(seen[2]) >= tonumber(ARGV[10])
    if ARGV[8] == '1' and is_breach and not is_latched then
      local now = string.format('%d', now_us())
      latch(ARGV[2], ARGV[6], seen[1], seen[2], 'kept-low-' .. ARGV[2], now, now)
      redis.call('HINCRBY', KEYS[2], 'signal_seq', 1)
      redis.call('ZADD', KEYS[5], 'LT', now, ARGV[2])
      is_latched = true
    end
  end
end
return 'created'
