-- Delete jobs that have ended. Request and answer as in walk.lua: the rows as they were.

return walk(function(id)
  local job = read(id)
  if not TERMINAL[job.status] then
    return false
  end
  local row = whole(id)
  remove(id, job)
  return row
end)
