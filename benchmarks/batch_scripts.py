"""What each part of the benchmark of batches runs in a process of its own."""

# A batch: times, memory and processor time of each file.
MEASURE = """
import json, resource, sys, time
from pathlib import Path
import psutil
from unet_studio import load_recipe, run_batch
recipe, images, out, report, workers = sys.argv[1:]
def main():
    me, seen, times, began = psutil.Process(), [], [], time.perf_counter()
    used, helpers = [], []
    def note(result, so_far):
        if int(workers) and not helpers:
            helpers.extend(me.children(recursive=True))
        seen.append(me.memory_info().rss)
        times.append(time.perf_counter() - began)
        used.append(time.process_time() + sum(sum(h.cpu_times()[:2]) for h in helpers))
    done = run_batch(recipe, [images], out, on_result=note, workers=int(workers) or None)
    facts = {"seconds": time.perf_counter() - began, "times": times, "rss": seen,
             "done": done.done, "failed": len(done.failed),
             "reasons": sorted({r.reason[:60] for r in done.failed})}
    facts["used"] = used
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    facts["cpu"] = sum(u.ru_utime + u.ru_stime for u in used)
    facts["peak"] = used[0].ru_maxrss * 1024
    Path(report).write_text(json.dumps(facts))
if __name__ == "__main__":
    main()
"""
# Reading left out, and writing: what the network and its objects take alone.
PURE = """
import json, sys, time
from pathlib import Path
from unet_studio import load_model, load_recipe, read_image, segment
recipe, images, out, report, _ = sys.argv[1:]
recipe = load_recipe(recipe)
model = load_model(recipe.model)
volumes = [read_image(p).read()[0] for p in sorted(Path(images).glob("*.tif"))]
segment(volumes[0], model, axes="YX")
began, used = time.perf_counter(), time.process_time()
for volume in volumes:
    segment(volume, model, axes="YX")
Path(report).write_text(json.dumps({"seconds": time.perf_counter() - began,
                                    "cpu": time.process_time() - used}))
"""
# One large image by all workers, or by one process.
BLOCKS = """
import json, resource, sys, time
from pathlib import Path
from unet_studio import load_recipe, run_batch
recipe, image, out, report, workers = sys.argv[1:]
def main():
    began = time.perf_counter()
    done = run_batch(recipe, [image], out, through_disk=True, workers=int(workers) or None,
                     split_above=1 if int(workers) else 0)
    assert done.done == 1, done.failed
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    facts = {"seconds": time.perf_counter() - began, "objects": done.objects,
             "cpu": sum(u.ru_utime + u.ru_stime for u in used)}
    Path(report).write_text(json.dumps(facts))
if __name__ == "__main__":
    main()
"""
# Many tasks that do nothing: what handing them out costs, and what it holds.
SCALE = """
import json, sys, time
from pathlib import Path
import distributed, psutil
from unet_studio.batch.crew import Crew
from unet_studio.events import CancelToken
def nothing(number):
    return number
def main():
    count, me, rss = int(sys.argv[1]), psutil.Process(), []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
        host="127.0.0.1",
    ) as cluster, distributed.Client(cluster) as client:
        each = Crew(client, CancelToken()).each
        assert list(each(nothing, range(1000))) == list(range(1000))
        began = time.perf_counter()
        for number, done in enumerate(each(nothing, range(count))):
            assert done == number
            if number % (count // 20) == 0:
                rss.append(me.memory_info().rss)
        seconds = time.perf_counter() - began
    Path(sys.argv[2]).write_text(json.dumps({"seconds": seconds, "rss": rss}))
if __name__ == "__main__":
    main()
"""
