-- traded: which of these symbols were traded in their session: a price of it is known, or a run holds some.
-- KEYS  1 engine:epoch  2 holding:{market}
-- ARGV  1 epoch  2 market  then for each symbol: the symbol, when its session opened, us
-- Reply a list of symbols
local traded, open = {}, {}
for i = 3, #ARGV, 2 do
  local time = redis.call('HGET', price_of(ARGV[2], ARGV[i]), 'time')
  if time and tonumber(time) >= tonumber(ARGV[i + 1]) then traded[#traded + 1] = ARGV[i] else open[ARGV[i]] = true end
end
if next(open) then
  for _, run in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    local symbol = redis.call('HGET', 'runtime:' .. run, 'symbol')
    if symbol and open[symbol] then
      traded[#traded + 1] = symbol
      open[symbol] = nil
    end
  end
end
return traded
