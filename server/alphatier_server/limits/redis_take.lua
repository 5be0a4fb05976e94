-- Take a place for one call, or say which limit forbids it: arithmetic.py `take`, in Redis and in one step.
-- KEYS: usage (hash), leases (sorted set, score = when the lease ends), streams (the leases that are streams),
--       what names of tombstones begin with
-- ARGV: now ('' for Redis' own clock), lease seconds, lease id, streamed (0|1), requests, reservation,
--       requests interval, requests burst, tokens interval, tokens burst, concurrent requests, concurrent streams
--       ('' where there is no such limit)
-- A lease's id ends with ':requests:reservation', so that a lease that has ended gives them back.
local EPOCH, SLACK, WAIT = 1700000000, 0.001, 1
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local lease_seconds, lease = tonumber(ARGV[2]), ARGV[3]
local streamed, requests, reservation = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])
local request_interval, request_burst = tonumber(ARGV[7]), tonumber(ARGV[8])
local token_interval, token_burst = tonumber(ARGV[9]), tonumber(ARGV[10])
local concurrent_requests, concurrent_streams = tonumber(ARGV[11]), tonumber(ARGV[12])

local state = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'running', 'reserved')
local requests_behind = math.max(0, (tonumber(state[1]) or 0) - now)
local tokens_behind = math.max(0, (tonumber(state[2]) or 0) - now)
local running, reserved = tonumber(state[3]) or 0, tonumber(state[4]) or 0

local function keep_held()
  redis.call('HSET', KEYS[1], 'running', string.format('%.0f', running), 'reserved', string.format('%.0f', reserved))
end

local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
for _, id in ipairs(ended) do
  local places, tokens = string.match(id, ':(%d+):(%d+)$')
  running, reserved = math.max(0, running - places), math.max(0, reserved - tokens)
end
if #ended > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  keep_held()
end

local function answer(refused, wait)
  local function text(number) return string.format('%.17g', number) end
  return {refused, text(wait), text(requests_behind), text(tokens_behind), text(reserved)}
end

-- Its end came first: nobody waits for this any more.
if redis.call('EXISTS', KEYS[4] .. lease) == 1 then return answer('concurrent_requests', WAIT) end

if concurrent_requests and running + requests > concurrent_requests then
  return answer('concurrent_requests', WAIT)
end
if streamed and concurrent_streams and redis.call('ZCARD', KEYS[3]) >= concurrent_streams then
  return answer('concurrent_streams', WAIT)
end
if request_interval then
  local missing = requests - (request_burst - requests_behind / request_interval)
  if missing > SLACK then return answer('requests_per_minute', missing * request_interval) end
end
if token_interval then
  local missing = reservation + reserved - (token_burst - tokens_behind / token_interval)
  if missing > SLACK then return answer('tokens_per_minute', missing * token_interval) end
end

if request_interval then
  requests_behind = requests_behind + requests * request_interval
  redis.call('HSET', KEYS[1], 'requests', string.format('%.17g', now + requests_behind))
end
running, reserved = running + requests, reserved + reservation
keep_held()
local ends = string.format('%.17g', now + lease_seconds)
redis.call('ZADD', KEYS[2], ends, lease)
if streamed then redis.call('ZADD', KEYS[3], ends, lease) end
local keep = math.ceil((math.max(lease_seconds, requests_behind, tokens_behind) + 60) * 1000)
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], keep) end
return answer('', 0)
