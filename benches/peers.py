"""What people use without the module, as they write it: Lua scripts."""

# A counter per window: what INCR and EXPIRE do by hand, in one script.
FIXED_WINDOW = """
local used = redis.call('INCR', KEYS[1])
if used == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if used > tonumber(ARGV[1]) then return 0 end
return 1
"""

# Two counters, of this window and the last, of which as much weighs as still
# overlaps with the window that ends now.
SLIDING_COUNTERS = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local number = math.floor(now / window)
local state = redis.call('HMGET', KEYS[1], 'number', 'used', 'before')
local used, before = 0, 0
if state[1] then
  local past = number - tonumber(state[1])
  if past == 0 then used, before = tonumber(state[2]), tonumber(state[3])
  elseif past == 1 then before = tonumber(state[2]) end
end
local overlap = 1 - (now / window - number)
if used + before * overlap + 1 > limit then return 0 end
redis.call('HSET', KEYS[1], 'number', number, 'used', used + 1, 'before', before)
redis.call('EXPIRE', KEYS[1], math.ceil(2 * window))
return 1
"""

# A sorted set with a member for each request in the window.
SORTED_SET_LOG = """
local now = redis.call('TIME')
local micros = now[1] * 1000000 + now[2]
local window = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, micros - window * 1000000)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], micros, micros .. ':' .. math.random(1000000000))
redis.call('EXPIRE', KEYS[1], window)
return 1
"""

# The generic cell rate algorithm as scripts write it: one string holds the
# theoretical arrival time, arithmetic in doubles.
GCRA = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local burst, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local interval = period / burst
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
local next_tat = math.max(tat, now) + interval
local allow_at = next_tat - period
local remaining = math.floor((now - allow_at) / interval + 0.5)
if now < allow_at then
  return {0, 0, tostring(allow_at - now), tostring(tat - now)}
end
redis.call('SET', KEYS[1], tostring(next_tat), 'EX', math.ceil(next_tat - now))
return {1, remaining, '-1', tostring(next_tat - now)}
"""

# Single flight: the value, else a lock to compute it under.
SINGLE_FLIGHT = """
local value = redis.call('GET', KEYS[1])
if value then return {'HIT', value} end
if redis.call('SET', KEYS[1] .. ':lock', ARGV[1], 'NX', 'PX', ARGV[2]) then return {'LOCKED'} end
return {'BUSY'}
"""
