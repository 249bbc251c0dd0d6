-- commit: apply a transition, append its record, release the lock and the slot, in one.
-- KEYS  1 engine:epoch  2 lock_state:{run}  3 runtime:{run}  4 due  5 tombstone:{run}
-- ARGV  1 epoch  2 token  3 step  4 run  5 signal_seq the holder has seen  6 '1' to release  7 lease, ms
--       8 changes JSON {set, del}  9 due, us, or ''  10 record JSON, or ''  11 fill time of a first fill, us, or ''
--       12 tombstone's life, ms, or '': the run ends  13 the event the record ends, or ''
--       14 '1': the record tells nothing but the event's outcome
--       15 JSON of what changed in the account's pool, see change_pool, or ''
--       16 '1': the attempt `intend` granted was provably not sent; its account's rate is given back
--       17 '1': the book has told of an entry that no grant is left of, so that none has armed the run
--       18 when the entry that filled first was granted, market time, us, or ''
-- Reply {'released'} | {'held', runtime fields}: asked to keep it, or something came meanwhile
--       | {'lost'}: the lock is no longer ours and nothing was applied
local token, step, run = ARGV[2], ARGV[3], ARGV[4]
local mark = token .. ':' .. step

if redis.call('HGET', KEYS[3], 'done') == mark or redis.call('HGET', KEYS[5], 'done') == mark then
  if redis.call('GET', KEYS[2]) == token then return { 'held', fields_of(KEYS[3]) } end
  return { 'released' }
end
if redis.call('GET', KEYS[2]) ~= token then return { 'lost' } end

local fields = redis.call('HMGET', KEYS[3], 'account_id', 'symbol', 'stop_units', 'buy_at', 'market')
local account, symbol, stop_units = 'account:' .. fields[1], fields[2], tonumber(fields[3])
local market = fields[5] or ''
local armed, latched = armed_of(market, symbol), latched_of(market, symbol)

local function free()
  redis.call('DEL', KEYS[2])
  for class, _ in pairs(slot_limits) do redis.call('ZREM', account .. ':slots:' .. class, run) end
end

local changed = redis.call('HGET', KEYS[3], 'signal_seq') ~= ARGV[5]
-- A hint that came while the lock was held is younger than what the holder answers: it stays.
local hinted = redis.call('HGET', KEYS[3], 'dirty')
if hinted and tonumber(hinted) <= tonumber(ARGV[5]) then hinted = nil end
write_fields(KEYS[3], cjson.decode(ARGV[8]))
if ARGV[15] ~= '' then change_pool(account, cjson.decode(ARGV[15]), KEYS[3]) end
if hinted then redis.call('HSET', KEYS[3], 'dirty', hinted) end
redis.call('HSET', KEYS[3], 'done', mark)
if ARGV[16] == '1' then
  for counter in string.gmatch(redis.call('HGET', KEYS[3], 'charged') or '', '%S+') do
    if redis.call('EXISTS', counter) == 1 then redis.call('DECR', counter) end
  end
end
redis.call('HDEL', KEYS[3], 'reply', 'nudges', 'charged')
note_holding(run, market)
if ARGV[10] ~= '' then
  local repeated = ARGV[13] ~= '' and not is_news(run, ARGV[13])
  if not (repeated and ARGV[14] == '1') then record(run, ARGV[10], repeated) end
end

if ARGV[12] ~= '' then
  record_exposure(run)
  redis.call('SREM', 'holding:' .. market, run)
  local last = redis.call('HMGET', KEYS[3], 'status', 'position', 'strategy_id', 'tenant', 'record_seq')
  redis.call('HSET', KEYS[5], 'done', mark, 'status', last[1], 'position', last[2], 'strategy_id', last[3],
    'tenant', last[4], 'record_seq', last[5] or '0')
  redis.call('HSET', KEYS[5], 'account_id', fields[1])
  -- What was known of its orders: a fill beyond it is nobody's any more, and somebody must be told.
  local all = redis.call('HGETALL', KEYS[3])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 6) == 'order:' then redis.call('HSET', KEYS[5], all[i], all[i + 1]) end
  end
  redis.call('PEXPIRE', KEYS[5], ARGV[12])
  redis.call('DEL', KEYS[3])
  -- Another run of the strategy lives by the same instruction, for as long as it holds something.
  redis.call('SREM', 'runs_of:' .. last[3], run)
  if redis.call('SCARD', 'runs_of:' .. last[3]) == 0 then
    redis.call('PEXPIRE', 'strategy:' .. last[3], ARGV[12])
  end
  redis.call('PEXPIRE', 'events:' .. run, ARGV[12])
  redis.call('SREM', account .. ':runs', run)
  redis.call('ZREM', armed, run)
  redis.call('SREM', latched, run)
  redis.call('ZREM', KEYS[4], run)
  free()
  return { 'released' }
end

if ARGV[17] == '1' then redis.call('ZADD', armed, stop_units, run) end
if ARGV[11] ~= '' then
  -- The first fill proves the position: an older breach counts only if the price is still there,
  -- and a price already there counts even if no further tick comes.
  redis.call('HSET', KEYS[3], 'first_fill_at', ARGV[11])
  if ARGV[18] ~= '' then redis.call('HSET', KEYS[3], 'granted_at', ARGV[18]) end
  local breached, breached_time = reached_by(market, symbol, stop_units, fields[4], ARGV[11], ARGV[18])
  local known = redis.call('HMGET', KEYS[3], 'latch_time', 'breached_at')
  local latch_time, last = known[1], math.max(tonumber(known[1] or '0'), tonumber(known[2] or '0'))
  redis.call('HDEL', KEYS[3], 'breached_at')
  if latch_time and last < tonumber(ARGV[11]) and not breached then
    redis.call('HDEL', KEYS[3], 'latch_price', 'latch_time', 'latch_event', 'latch_seen_at', 'latch_at')
    redis.call('SREM', latched, run)
    redis.call('ZADD', armed, stop_units, run)
    record(run, cjson.encode({ kind = 'latch_dropped', latch_dropped = true }))
    changed = true
  elseif latch_time then
    redis.call('ZREM', armed, run)
  elseif breached then
    local now = string.format('%d', now_us())
    latch(run, market, symbol, breached, breached_time, 'first-fill-' .. run, now, now)
    changed = true
  end
end

if changed then
  -- Told without what came meanwhile: it may not put that off, for the holder may die before it has looked again.
  if ARGV[9] ~= '' then redis.call('ZADD', KEYS[4], 'LT', ARGV[9], run) end
elseif ARGV[9] ~= '' then
  redis.call('ZADD', KEYS[4], ARGV[9], run)
else
  redis.call('ZREM', KEYS[4], run)
end
if ARGV[6] == '1' and not changed then
  free()
  return { 'released' }
end
redis.call('PEXPIRE', KEYS[2], ARGV[7])
extend_slot(account, run, ARGV[7])
return { 'held', fields_of(KEYS[3]) }
