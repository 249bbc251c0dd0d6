-- intend: grant one attempt, locking its run where that was read without a lock and is still as it was read.
-- Only the worker this answers 'granted' may send it.
-- KEYS  1 engine:epoch  2 lock_state:{run}  3 runtime:{run}  4 due
-- ARGV  1 epoch  2 token  3 step  4 run  5 client order id  6 order JSON  7 lease, ms  8 changes JSON {set, del}
--       9 due, us  10 rate class: entry or exit  11 record JSON  12 symbol to arm under, or ''
--       13 failures that open the breaker  14 its pause, us
--       15 what a run that is not locked must still be, by `state_of`, to be locked here; '' where the caller holds it
--       16 units of the order  17 JSON of what it changes in the account's pool, see change_pool
--       18 how long an account's exits wait for one that tries a dead line, us
-- Reply {'granted'} | {'lost'}: the lock is not ours, or not to be had
--       | {'denied', by: as engine.domain.health names them, retry after us}
--       | {'denied', 'cover', units}: an exit of more than so many would sell what the account has not
--       | {'taken'}: this attempt was granted before, to someone else | {'full'}: the account has no free slot
local token, step, run, coid = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local mark = token .. ':' .. step

-- Nothing a decision rests on changes without one of these: each step, each signal, each reading of the account's
-- holdings, each new version of its details. nil where the run is not to be trusted as it is.
local function state_of()
  if redis.call('HGET', KEYS[3], 'epoch') ~= epoch_n then return nil end
  local now = redis.call('HMGET', KEYS[3], 'account_id', 'done', 'signal_seq')
  local seen_at = account_has('account:' .. now[1], pool_key(KEYS[3])).at
  local version = redis.call('HGET', 'account:' .. now[1], 'version')
  return table.concat({ now[2] or '', now[3], seen_at or '', version or '' }, ' ')
end

-- Whether the last price is at the stop already: what is bought would be sold at once. A price of another day proves
-- nothing, but for a stop no price can reach within a day's band.
local function is_stop_reached()
  local of = redis.call('HMGET', KEYS[3], 'symbol', 'stop_units', 'buy_at')
  local known = redis.call('HMGET', price_of(market_of(run), of[1]), 'price', 'time', 'traded_at')
  if not known[1] then return false end
  local is_todays = tonumber(known[3] or known[2]) > tonumber(of[3]) - 43200000000
  return tonumber(of[2]) >= tonumber(known[1]) * (is_todays and 1 or 1.2)
end

local holder = redis.call('GET', KEYS[2])
if holder ~= token then
  if holder or ARGV[15] == '' or state_of() ~= ARGV[15] then return { 'lost' } end
  local of = redis.call('HGET', KEYS[3], 'account_id')
  if not take_slot('account:' .. of, ARGV[10], run, ARGV[7]) then return { 'lost' } end
  redis.call('SET', KEYS[2], token, 'PX', ARGV[7])
end
if redis.call('HGET', KEYS[3], 'done') == mark then return cjson.decode(redis.call('HGET', KEYS[3], 'reply')) end
if redis.call('HEXISTS', KEYS[3], 'order:' .. coid) == 1 then return { 'taken' } end

local account = 'account:' .. redis.call('HGET', KEYS[3], 'account_id')
if not keep_slot(account, run, ARGV[7]) then return { 'full' } end
local now = now_us()

-- As engine.domain.health: exits pause only where the broker asks it of exits, and where its line is dead all but one
-- of an account's exits wait for the one that tries it.
local entry, health = ARGV[10] == 'entry', account .. ':health'
local known = redis.call('HMGET', health, 'failures', 'probe_at', 'limited_entry', 'limited_exit', 'dead_version',
  'exit_probe_at')
local is_open = tonumber(known[1] or '0') >= tonumber(ARGV[13])
local details = redis.call('HMGET', account, 'version', 'token_ends')
local ends = tonumber(details[2] or '')
local is_dead = (known[5] and known[5] == details[1]) or (ends and now >= ends)
if entry then
  if is_dead then return { 'denied', 'token', 0 } end
  -- A position whose stop nobody watches must not be opened.
  local _, is_blind = proven_at(market_of(run), redis.call('HGET', KEYS[3], 'symbol'))
  if is_blind then return { 'denied', 'blind', 1000000 } end
end
if not entry and (is_dead or is_open) and tonumber(known[6] or '0') > now then
  return { 'denied', is_dead and 'token' or 'breaker', tonumber(known[6]) - now }
end
local limited = tonumber(known[4] or '0')
if entry then limited = math.max(limited, tonumber(known[3] or '0')) end
if limited > now then return { 'denied', 'broker', limited - now } end
if entry and is_open and tonumber(known[2] or '0') > now then
  return { 'denied', 'breaker', tonumber(known[2]) - now }
end
if entry and is_stop_reached() then return { 'denied', 'stop_above_price', 1000000 } end
local change = cjson.decode(ARGV[17])
if not entry then
  local free = run_has(account, change.key, KEYS[3]).free
  if free < tonumber(ARGV[16]) then return { 'denied', 'cover', math.max(0, free) } end
end
local second = math.floor(now / 1000000)
local windows = { { 'second', 1 }, { 'minute', 60 }, { 'day', 86400 } }
local counters = {}
for _, window in ipairs(windows) do
  local limit = tonumber(redis.call('HGET', account, 'rate_' .. window[1]) or '')
  if limit then
    if entry then
      limit = limit - tonumber(redis.call('HGET', account, 'reserve_' .. window[1]) or '0')
    end
    local index = math.floor(second / window[2])
    local counter = account .. ':rate:' .. window[1] .. ':' .. string.format('%d', index)
    -- A day is too long for a stop to wait: beyond the broker's own limit its refusal is the answer.
    local waits = entry or window[1] ~= 'day'
    if waits and tonumber(redis.call('GET', counter) or '0') >= limit then
      return { 'denied', window[1], (index + 1) * window[2] * 1000000 - now }
    end
    counters[#counters + 1] = { counter, window[2] }
  end
end
local charged = {}
for _, counter in ipairs(counters) do
  redis.call('INCR', counter[1])
  redis.call('EXPIRE', counter[1], counter[2] + 1)
  charged[#charged + 1] = counter[1]
end

if not entry and (is_dead or is_open) then
  redis.call('HSET', health, 'exit_probe_at', string.format('%d', now + tonumber(ARGV[18])))
end
if entry and is_open then redis.call('HSET', health, 'probe_at', string.format('%d', now + tonumber(ARGV[14]))) end
redis.call('PEXPIRE', KEYS[2], ARGV[7])
local changes = cjson.decode(ARGV[8])
write_fields(KEYS[3], changes)
-- What came with this step may have changed what the run holds.
if changes.set and changes.set.position then note_holding(run, market_of(run)) end
change_pool(account, change, KEYS[3])
redis.call('HSET', KEYS[3], 'order:' .. coid, ARGV[6], 'done', mark, 'reply', '["granted"]',
  'charged', table.concat(charged, ' '), 'readings', redis.call('HGET', account .. ':reading', 'begun') or '0')
redis.call('ZADD', KEYS[4], ARGV[9], run)
if ARGV[12] ~= '' then
  redis.call('ZADD', armed_of(market_of(run), ARGV[12]), redis.call('HGET', KEYS[3], 'stop_units'), run)
end
record(run, ARGV[11])
return { 'granted' }
