-- claim: lock a run and load it, in one round trip.
-- KEYS  1 engine:epoch  2 lock_state:{run}  3 runtime:{run}  4 tombstone:{run}  5 due
-- ARGV  1 epoch  2 token  3 lease, ms  4 run  5 event id  6 event type  7 slot class: entry, exit or ''
--       8 when a parked run is looked at again, us: a moment from now
-- Reply {'held', runtime fields, strategy fields, account version, how many facts its health holds}
--       {'busy'}: the event is left as a flag in the run; {'gone'}: the run ended; {'unknown'}: no such run
--       {'parked'}: the account has no free slot; `due` brings the run back
local token, run, event_id, event_type, class = ARGV[2], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local function note(outcome) note_event(run, event_id, event_type, outcome) end

local function held() return { 'held', unpack(loaded(run)) } end

if redis.call('EXISTS', KEYS[3]) == 0 then
  if redis.call('EXISTS', KEYS[4]) == 1 then
    note('ignored: run_ended')
    return { 'gone' }
  end
  record('', cjson.encode({ kind = 'dead_letter', source = 'event', reason = 'unknown run',
    payload = event_type .. ' ' .. event_id .. ' ' .. run }))
  return { 'unknown' }
end

local holder = redis.call('GET', KEYS[2])
if holder == token then return held() end
if holder then
  redis.call('HINCRBY', KEYS[3], 'signal_seq', 1)
  -- Whoever holds it looks again; where that one is dead, the end of its lease is the time to, to a tenth of a second.
  local left = math.floor(redis.call('PTTL', KEYS[2]) / 100 + 0.5) * 100000
  redis.call('ZADD', KEYS[5], 'LT', string.format('%d', tonumber(ARGV[8]) + left), run)
  note('coalesced')
  return { 'busy' }
end

if class ~= '' then
  if not take_slot('account:' .. redis.call('HGET', KEYS[3], 'account_id'), class, run, ARGV[3]) then
    redis.call('ZADD', KEYS[5], ARGV[8], run)
    note('parked')
    return { 'parked' }
  end
end
redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
return held()
