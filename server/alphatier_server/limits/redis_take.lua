-- Take a place for one request, or say which limit forbids it: limits.py `take`, in Redis and in one step.
-- KEYS: buckets (hash), leases (sorted set, score = when the lease ends), streams (the leases that are streams)
-- ARGV: now ('' for Redis' own clock), lease seconds, lease id, streamed (0|1), reservation,
--       requests interval, requests burst, tokens interval, tokens burst, concurrent requests, concurrent streams
--       ('' where there is no such limit)
-- A lease's id ends with ':' and its reserved tokens, so that a lease that has ended gives them back.
local EPOCH, SLACK, WAIT = 1700000000, 0.001, 1
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local lease_seconds, lease = tonumber(ARGV[2]), ARGV[3]
local streamed, reservation = ARGV[4] == '1', tonumber(ARGV[5])
local request_interval, request_burst = tonumber(ARGV[6]), tonumber(ARGV[7])
local token_interval, token_burst = tonumber(ARGV[8]), tonumber(ARGV[9])
local concurrent_requests, concurrent_streams = tonumber(ARGV[10]), tonumber(ARGV[11])

local state = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'reserved')
local requests_behind = math.max(0, (tonumber(state[1]) or 0) - now)
local tokens_behind = math.max(0, (tonumber(state[2]) or 0) - now)
local reserved = tonumber(state[3]) or 0

local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
for _, id in ipairs(ended) do
  reserved = reserved - tonumber(string.match(id, ':(%d+)$'))
end
if #ended > 0 then
  reserved = math.max(0, reserved)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  redis.call('HSET', KEYS[1], 'reserved', string.format('%.0f', reserved))
end

local function answer(refused, wait)
  local function text(number) return string.format('%.17g', number) end
  return {refused, text(wait), text(requests_behind), text(tokens_behind), text(reserved)}
end

if concurrent_requests and redis.call('ZCARD', KEYS[2]) >= concurrent_requests then
  return answer('concurrent_requests', WAIT)
end
if streamed and concurrent_streams and redis.call('ZCARD', KEYS[3]) >= concurrent_streams then
  return answer('concurrent_streams', WAIT)
end
if request_interval then
  local missing = 1 - (request_burst - requests_behind / request_interval)
  if missing > SLACK then return answer('requests_per_minute', missing * request_interval) end
end
if token_interval then
  local missing = reservation + reserved - (token_burst - tokens_behind / token_interval)
  if missing > SLACK then return answer('tokens_per_minute', missing * token_interval) end
end

if request_interval then
  requests_behind = requests_behind + request_interval
  redis.call('HSET', KEYS[1], 'requests', string.format('%.17g', now + requests_behind))
end
reserved = reserved + reservation
redis.call('HSET', KEYS[1], 'reserved', string.format('%.0f', reserved))
local ends = string.format('%.17g', now + lease_seconds)
redis.call('ZADD', KEYS[2], ends, lease)
if streamed then redis.call('ZADD', KEYS[3], ends, lease) end
local keep = math.ceil((math.max(lease_seconds, requests_behind, tokens_behind) + 60) * 1000)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, keep) end
return answer('', 0)
