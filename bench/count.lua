-- Appended to load.lua where every answer is counted. It makes wrk collect fields and
-- bodies, which costs wrk far more than sending, so timed runs go without it.

statuses = {}
wrong_bytes = 0

function response(status, _, body)
   statuses[status] = (statuses[status] or 0) + 1
   if wanted_bytes >= 0 and #body ~= wanted_bytes then
      wrong_bytes = wrong_bytes + 1
   end
end
