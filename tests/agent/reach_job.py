"""One turn of the router's reachability, on either runtime: `reach_job.py JSON`, with the settings in JSON and `close`.

Prints the status as JSON after `keep`, and after `close` where that is asked for.
"""

import json
import sys

sys.path.insert(0, __file__.rsplit("/tests/", 1)[0] + "/src")

from bwrouter.agent.reach import Reach  # noqa: E402

job = json.loads(sys.argv[1])
reach = Reach(job["settings"])
for _ in range(job.get("turns", 1)):
    reach._due = None
    changed = reach.keep()
    print(json.dumps({"changed": changed, "settings": job["settings"], "status": reach.status()}))
if job.get("close"):
    reach.close()
