-- arm: create a run's live state where there is none.
-- KEYS  1 engine:epoch  2 runtime:{run}  3 tombstone:{run}  4 strategy:{id}  5 due  6 runs_of:{strategy}
-- ARGV  1 epoch  2 run  3 runtime JSON  4 strategy JSON  5 due, us  6 symbol  7 record JSON
--       8 '1' to arm its stop at once: it may already hold or be buying
--       9 JSON of what it adds to its account's pool, see change_pool
--       10 exchange time from which on a price under its stop concerns it, us, or ''  11 '1': for it is known to hold
--       12 when the entry that filled first was granted, market time, us, or ''
-- Reply 'created' | 'exists': only its strategy's instruction is kept, or written where it is gone | 'ended'

if redis.call('EXISTS', KEYS[3]) == 1 then return 'ended' end
local lives = redis.call('EXISTS', KEYS[2]) == 1
if not lives or redis.call('EXISTS', KEYS[4]) == 0 then write_fields(KEYS[4], { set = cjson.decode(ARGV[4]) }) end
redis.call('PERSIST', KEYS[4])
redis.call('SADD', KEYS[6], ARGV[2])
if lives then return 'exists' end
write_fields(KEYS[2], { set = cjson.decode(ARGV[3]) })
redis.call('HSET', KEYS[2], 'epoch', epoch_n, 'pool_held', '0', 'pool_out', '0')
redis.call('ZADD', KEYS[5], ARGV[5], ARGV[2])
local account = 'account:' .. redis.call('HGET', KEYS[2], 'account_id')
local market = redis.call('HGET', account, 'market') or ''
redis.call('HSET', KEYS[2], 'market', market)
redis.call('SADD', 'markets', market)
redis.call('SADD', 'symbols:' .. market, ARGV[6])
redis.call('SADD', account .. ':runs', ARGV[2])
note_holding(ARGV[2], market)
if ARGV[8] == '1' then
  local has_latch = redis.call('HEXISTS', KEYS[2], 'latch_time') == 1
  if has_latch then redis.call('SADD', latched_of(market, ARGV[6]), ARGV[2]) end
  if not has_latch or ARGV[11] ~= '1' then
    redis.call('ZADD', armed_of(market, ARGV[6]), redis.call('HGET', KEYS[2], 'stop_units'), ARGV[2])
  end
end
local change = cjson.decode(ARGV[9])
change_pool(account, change, KEYS[2])
if (change.net ~= 0 or change.out ~= 0) and redis.call('EXISTS', account .. ':held') == 1 then
  -- A reading of before cannot say whether it contains what this run brings: the next one does.
  redis.call('HSET', account .. ':held', change.key, '?')
  redis.call('HDEL', account .. ':held', change.key .. ' cap', change.key .. ' others')
end
record(ARGV[2], ARGV[7])
if ARGV[10] ~= '' then
  if ARGV[11] == '1' then redis.call('HSET', KEYS[2], 'first_fill_at', ARGV[10], 'granted_at', ARGV[12]) end
  if ARGV[8] ~= '' then latch_what_was_missed(ARGV[2], market, ARGV[6], tonumber(ARGV[10]), KEYS[5]) end
end
return 'created'
