-- watch: which of these runs hold something whose stop cannot fire, and for how long that has been so.
-- KEYS  1 engine:epoch  2 holding:{market}  3 due
-- ARGV  1 epoch  2 market  3 market time, us: a run out of its session is nobody's worry  4... runs
-- Reply a list of {run, tenant, symbol, when its line was last proven or '', '1' where it is blind} for those that are
--       naked: blind, or with an account whose token the broker refuses, so that no exit can be placed
local market, market_now = ARGV[2], tonumber(ARGV[3])
local naked = {}
local now = now_us()

for i = 4, #ARGV do
  local run = ARGV[i]
  local key = 'runtime:' .. run
  local of = redis.call('HMGET', key, 'tenant', 'symbol', 'account_id', 'buy_at', 'closes_at', 'latch_time',
    'stop_units', 'naked_at', 'blind_at', 'position', 'first_fill_at')
  if of[10] ~= 'bought' then
    redis.call('SREM', KEYS[2], run)
  elseif market_now >= tonumber(of[4]) and market_now < tonumber(of[5]) then
    local account = 'account:' .. of[3]
    local dead = redis.call('HGET', account .. ':health', 'dead_version')
    local is_dead = dead and dead == redis.call('HGET', account, 'version')
    local proven, is_blind = proven_at(market, of[2])
    if not of[6] and not redis.call('ZSCORE', armed_of(market, of[2]), run) then
      -- No step leaves a holding run so; should one be missed, its stop is armed again.
      redis.call('ZADD', armed_of(market, of[2]), of[7], run)
      if of[11] then latch_what_was_missed(run, market, of[2], tonumber(of[11]), KEYS[3]) end
    end
    expose(key, 'blind', is_blind, of[9], proven, now)
    expose(key, 'naked', is_blind or is_dead, of[8], is_blind and proven, now)
    if is_blind or is_dead then
      naked[#naked + 1] = { run, of[1], of[2], proven or '', is_blind and '1' or '0' }
    elseif of[8] then
      record_exposure(run)
    end
  elseif of[8] or of[9] then
    redis.call('HDEL', key, 'naked_at', 'blind_at')
    record_exposure(run)
  end
end
return naked
