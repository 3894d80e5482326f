-- Store all jobs whose id is new. Request: jobs (each an object of fields), knock (microseconds).
-- Answers for each job the time of its creation or, where it was there already, its row.

local function insert(fields)
  local scheduled_at = tonumber(fields.scheduled_at)
  if scheduled_at and scheduled_at > now then
    create(fields.id, fields, {status = 'scheduled', run_at = fields.scheduled_at, knocks = 0, attempt = 0})
    redis.call('ZADD', DUE, scheduled_at, fields.id)
  else
    create(fields.id, fields, {status = 'pending', run_at = now, knocks = 1, attempt = 0})
    redis.call('ZADD', DUE, now + request.knock, fields.id)
  end
  return now
end

local answers = {}
for position, fields in ipairs(request.jobs) do
  local known = redis.call('EXISTS', job_key(fields.id)) == 1
  answers[position] = known and whole(fields.id) or insert(fields)
end
return answers
