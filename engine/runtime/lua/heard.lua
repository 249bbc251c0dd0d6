-- heard: what a call to the broker told of its account, kept for all workers; see engine.domain.health.
-- KEYS  1 engine:epoch  2 account:{id}  3 account:{id}:health
-- ARGV  1 epoch  2 version of the details the call was made with  3 what: answered, silent, limited, token_dead,
--       token_lives  4 leg: entry or exit  5 pause the broker asked for, us, or ''  6 failures that open the breaker
--       7 the breaker's pause, us
-- Reply what changed: breaker_opened, breaker_closed, token_dead, token_lives
local version, what, now = ARGV[2], ARGV[3], now_us()
local opens_after, changes = tonumber(ARGV[6]), {}
if redis.call('HGET', KEYS[2], 'version') ~= version then
  -- Of other details than the account has now: its old token says nothing of the new one.
  if what == 'token_dead' or what == 'token_lives' then return changes end
  version = ''
end
local kept = redis.call('HMGET', KEYS[3], 'failures', 'limited_entry', 'limited_exit', 'dead_version')
local failures, dead = tonumber(kept[1] or '0'), kept[4] or ''

if what == 'silent' then
  failures = redis.call('HINCRBY', KEYS[3], 'failures', 1)
  if failures >= opens_after then
    redis.call('HSET', KEYS[3], 'probe_at', string.format('%d', now + tonumber(ARGV[7])))
  end
  if failures == opens_after then changes[1] = 'breaker_opened' end
  return changes
end

if what ~= 'token_lives' then
  redis.call('HDEL', KEYS[3], 'failures', 'probe_at')
  if what ~= 'token_dead' then redis.call('HDEL', KEYS[3], 'exit_probe_at') end
  if tonumber(kept[2] or '0') <= now then redis.call('HDEL', KEYS[3], 'limited_entry') end
  if tonumber(kept[3] or '0') <= now then redis.call('HDEL', KEYS[3], 'limited_exit') end
  if failures >= opens_after then changes[1] = 'breaker_closed' end
end
if what == 'token_dead' then
  if dead ~= version then changes[#changes + 1] = 'token_dead' end
  redis.call('HSET', KEYS[3], 'dead_version', version)
elseif what == 'limited' then
  local field = 'limited_' .. ARGV[4]
  local till = ARGV[5] ~= '' and now + tonumber(ARGV[5]) or (math.floor(now / 1000000) + 1) * 1000000
  if till > tonumber(redis.call('HGET', KEYS[3], field) or '0') then
    redis.call('HSET', KEYS[3], field, string.format('%d', till))
  end
elseif version ~= '' and dead == version then
  redis.call('HDEL', KEYS[3], 'dead_version', 'exit_probe_at')
  changes[#changes + 1] = 'token_lives'
end
return changes
