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

# An admission as LiteLLM's proxy makes it (parallel_request_limiter_v3.py): scripts of
# our own that make the calls of the server that its scripts make, in as many round
# trips. A window's start and each counter are keys of their own, slots a sorted set.
# Before the call of the model: the requests are counted, a slot is taken, tokens are
# reserved; after it: the tokens are corrected, the slot is given back.
LITELLM_REQUESTS = """
local now, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local since = redis.call('GET', KEYS[1])
if since and now - tonumber(since) < window then
  local used = redis.call('INCR', KEYS[2])
  if redis.call('TTL', KEYS[2]) < 0 then redis.call('EXPIRE', KEYS[2], window) end
  return {since, used}
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], 1)
redis.call('EXPIRE', KEYS[1], window)
redis.call('EXPIRE', KEYS[2], window)
return {ARGV[1], 1}
"""

LITELLM_SLOT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
local used = redis.call('ZCARD', KEYS[1])
if used >= tonumber(ARGV[1]) then return {1, used} end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {0, redis.call('ZCARD', KEYS[1])}
"""

LITELLM_TOKENS = """
local now, window = tonumber(redis.call('TIME')[1]), tonumber(ARGV[3])
local since = redis.call('GET', KEYS[1])
local open = since and now - tonumber(since) < window
local used = open and tonumber(redis.call('GET', KEYS[2]) or 0) or 0
if used + tonumber(ARGV[2]) > tonumber(ARGV[1]) then return {1, used} end
if not open then
  redis.call('SET', KEYS[1], now)
  redis.call('SET', KEYS[2], ARGV[2])
  redis.call('EXPIRE', KEYS[1], window)
  redis.call('EXPIRE', KEYS[2], window)
  return {0, tonumber(ARGV[2])}
end
used = redis.call('INCRBY', KEYS[2], ARGV[2])
if redis.call('TTL', KEYS[2]) < 0 then redis.call('EXPIRE', KEYS[2], window) end
return {0, used}
"""

LITELLM_CORRECT = """
local used = redis.call('INCRBYFLOAT', KEYS[1], ARGV[1])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return used
"""

LITELLM_RELEASE = """
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('ZCARD', KEYS[1])
"""

# The same at once, as one would write it that knows all three beforehand: two
# counters and a sorted set, all asked, then all charged; and its end.
ADMIT = """
local now, window, lasts = tonumber(redis.call('TIME')[1]), ARGV[4], tonumber(ARGV[6])
local requests = tonumber(redis.call('GET', KEYS[1]) or 0)
local tokens = tonumber(redis.call('GET', KEYS[2]) or 0)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local slots = redis.call('ZCARD', KEYS[3])
if requests >= tonumber(ARGV[1]) or tokens + tonumber(ARGV[3]) > tonumber(ARGV[2])
  or slots >= tonumber(ARGV[5]) then return {0, requests, tokens, slots} end
if redis.call('INCR', KEYS[1]) == 1 then redis.call('EXPIRE', KEYS[1], window) end
redis.call('INCRBY', KEYS[2], ARGV[3])
if tokens == 0 then redis.call('EXPIRE', KEYS[2], window) end
redis.call('ZADD', KEYS[3], now + lasts, ARGV[7])
redis.call('EXPIRE', KEYS[3], lasts)
return {1, requests + 1, tokens + tonumber(ARGV[3]), slots + 1}
"""

SETTLE = """
if redis.call('ZREM', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('INCRBY', KEYS[1], ARGV[1])
return 1
"""
