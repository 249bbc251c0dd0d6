-- account: replace what orders need to know of an account; its runs follow it where it has moved to another market.
-- KEYS  1 engine:epoch  2 account:{id}  3 account:{id}:runs  4 accounts  5 due
-- ARGV  1 epoch  2 id  3 details JSON
-- Reply how many runs moved
local details = cjson.decode(ARGV[3])
-- Whole: a limit that was lifted must not stay behind.
redis.call('DEL', KEYS[2])
write_fields(KEYS[2], { set = details })
redis.call('SADD', KEYS[4], ARGV[2])

local moved, market = 0, details.market
for _, run in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local key = 'runtime:' .. run
  local of = redis.call('HMGET', key, 'symbol', 'market', 'stop_units')
  if of[1] and of[2] ~= market then
    -- A run of an engine that knew no markets has none: its stop lies under its symbol alone.
    local was_armed = 'symbol:' .. of[1] .. ':strategies'
    local was_latched = 'latched:' .. of[1]
    if of[2] then was_armed, was_latched = armed_of(of[2], of[1]), latched_of(of[2], of[1]) end
    if redis.call('ZREM', was_armed, run) == 1 then redis.call('ZADD', armed_of(market, of[1]), of[3], run) end
    if redis.call('SREM', was_latched, run) == 1 then redis.call('SADD', latched_of(market, of[1]), run) end
    if of[2] then redis.call('SREM', 'holding:' .. of[2], run) end
    redis.call('HSET', key, 'market', market)
    redis.call('SADD', 'markets', market)
    redis.call('SADD', 'symbols:' .. market, of[1])
    note_holding(run, market)
    -- A price that is there already counts even if no further tick comes.
    local held = redis.call('HMGET', key, 'first_fill_at', 'granted_at', 'buy_at', 'latch_time', 'position')
    if held[1] and held[5] == 'bought' and not held[4] then
      local price, time = reached_by(market, of[1], of[3], held[3], held[1], held[2])
      -- Nobody watched that market for this run: its last price may have been told long before it bought.
      if price and tonumber(time) >= tonumber(held[1]) then
        local now = string.format('%d', now_us())
        latch(run, market, of[1], price, time, 'moved-' .. run .. '-' .. time, now, now)
        redis.call('HINCRBY', key, 'signal_seq', 1)
        redis.call('ZADD', KEYS[5], 'LT', now, run)
      end
    end
    moved = moved + 1
  end
end
return moved
