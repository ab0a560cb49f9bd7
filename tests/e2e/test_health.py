#!/usr/bin/env python3
"""Health checks as users see them: states, log, events, timeouts, restarts of the daemon; beside dockerd 20.10 where that decides."""

import json
import os
import tempfile
import time
import unittest

import caisson
import peers
from caisson import wait_until


def thread_count(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


class Health(caisson.EngineTest):
    def health(self, name):
        return self.engine.inspect(name)["State"].get("Health")

    def wait_for(self, name, status):
        return wait_until(lambda: (self.health(name) or {}).get("Status") == status and self.health(name), f"{name} is {status}", 30)

    def test_a_container_turns_healthy_then_unhealthy_then_healthy(self):
        name = self.run_detached("--health-cmd", "echo looked; test -e /ok", "--health-interval", "200ms", "--health-retries", "2")
        self.assertEqual(self.health(name)["Status"], "starting")
        self.assertIn("(health: starting)", self.engine.ok("ps", "--filter", f"name={name}", "--format", "{{.Status}}"))
        health = self.wait_for(name, "unhealthy")
        self.assertGreaterEqual(health["FailingStreak"], 2)
        self.assertEqual(health["Log"][-1]["ExitCode"], 1)
        self.assertEqual(health["Log"][-1]["Output"], "looked\n")
        self.engine.ok("exec", name, "touch", "/ok")
        health = self.wait_for(name, "healthy")
        self.assertEqual(health["FailingStreak"], 0)
        self.assertTrue(self.engine.ok("ps", "--filter", f"name={name}", "--format", "{{.Status}}").endswith("(healthy)"))
        wait_until(lambda: len(self.health(name)["Log"]) == 5, "five results are kept")
        time_of_last = self.health(name)["Log"][-1]["Start"]
        wait_until(lambda: self.health(name)["Log"][-1]["Start"] > time_of_last, "a sixth pushes the first out")
        self.assertEqual(len(self.health(name)["Log"]), 5)

    def test_filters_by_health(self):
        healthy = self.run_detached("--health-cmd", "true", "--health-interval", "100ms")
        plain = self.run_detached()
        self.wait_for(healthy, "healthy")
        names = lambda word: self.engine.ok("ps", "--filter", f"health={word}", "--format", "{{.Names}}").split()
        self.assertIn(healthy, names("healthy"))
        self.assertNotIn(plain, names("healthy"))
        self.assertIn(plain, names("none"))
        self.assertEqual(self.engine.request("GET", "/containers/json?filters=%7B%22health%22%3A%5B%22bogus%22%5D%7D")[0], 400)

    def test_a_probe_that_takes_too_long_is_killed_with_its_children(self):
        name = self.run_detached("--health-cmd", "echo begun; sleep 777 & sleep 777", "--health-interval", "100ms", "--health-timeout", "300ms", "--health-retries", "1")
        health = self.wait_for(name, "unhealthy")
        self.assertEqual(health["Log"][0]["ExitCode"], -1)
        self.assertEqual(health["Log"][0]["Output"], "Health check exceeded timeout (300ms): begun\n")
        counts = lambda: self.engine.ok("top", name, "-o", "args").splitlines().count("sleep 777")
        wait_until(lambda: len(self.health(name)["Log"]) >= 3, "three probes have been killed")
        self.assertLessEqual(counts(), 2, "only one probe runs at a time, and nothing is left of the others")

    def test_output_is_cut_at_4096_bytes(self):
        name = self.run_detached("--health-cmd", "head -c 100000 /dev/zero | tr '\\0' x", "--health-interval", "100ms")
        health = self.wait_for(name, "healthy")
        self.assertEqual(health["Log"][0]["Output"], "x" * 4096 + "...")

    def test_a_program_that_is_missing_is_a_failure_with_a_reason(self):
        status, _, body = self.engine.request("POST", f"/containers/create?name={self.name()}", {
            "Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["CMD", "/no/such"], "Interval": 100_000_000, "Retries": 1}})
        self.assertEqual(status, 201, body)
        container = json.loads(body)["Id"]
        self.engine.ok("start", container)
        health = self.wait_for(container, "unhealthy")
        self.assertIn("no such file or directory", health["Log"][0]["Output"])

    def test_failures_in_the_start_period_do_not_count_and_its_interval_is_shorter(self):
        name = self.run_detached("--health-cmd", "test -e /ok", "--health-interval", "1h", "--health-start-period", "1h", "--health-start-interval", "100ms", "--health-retries", "1")
        wait_until(lambda: len(self.health(name)["Log"]) >= 3, "three probes failed")
        self.assertEqual((self.health(name)["Status"], self.health(name)["FailingStreak"]), ("starting", 0))
        self.engine.ok("exec", name, "touch", "/ok")
        self.wait_for(name, "healthy")

    def test_the_images_check_is_used_overridden_and_switched_off(self):
        self.engine.import_image(caisson.busybox_rootfs(), "checked:1", ["ENV PATH=/bin", 'CMD ["sleep","1000"]', "HEALTHCHECK --interval=100ms --retries=7 CMD test -e /ok"])
        own, changed, without = self.name(), self.name(), self.name()
        self.engine.ok("run", "-d", "--name", own, "checked:1")
        self.engine.ok("run", "-d", "--name", changed, "--health-cmd", "true", "checked:1")
        self.engine.ok("run", "-d", "--name", without, "--no-healthcheck", "checked:1")
        check = self.engine.inspect(changed)["Config"]["Healthcheck"]
        self.assertEqual((check["Test"], check["Interval"], check["Retries"]), (["CMD-SHELL", "true"], 100_000_000, 7))
        self.wait_for(changed, "healthy")
        self.assertEqual(self.engine.inspect(own)["Config"]["Healthcheck"]["Test"], ["CMD-SHELL", "test -e /ok"])
        self.assertIsNone(self.health(without))
        self.assertEqual(self.engine.inspect(without)["Config"]["Healthcheck"]["Test"], ["NONE"])

    def test_the_check_survives_a_crash_of_the_daemon_and_goes_on(self):
        name = self.run_detached("--health-cmd", "true", "--health-interval", "200ms")
        late = self.run_detached("--health-cmd", "sleep 888", "--health-interval", "100ms", "--health-timeout", "2s")
        self.wait_for(name, "healthy")
        counts = lambda: self.engine.ok("top", late, "-o", "args").splitlines().count("sleep 888")
        wait_until(lambda: counts() == 1, "a long probe runs")
        self.engine.kill9()
        self.engine.start()
        self.assertEqual(self.health(name)["Status"], "healthy")
        last = self.health(name)["Log"][-1]["Start"]
        wait_until(lambda: self.health(name)["Log"][-1]["Start"] > last, "probes go on")
        wait_until(lambda: counts() <= 1, "the monitor has ended the probe of the old daemon")
        wait_until(lambda: self.health(late)["FailingStreak"] >= 1, "the new daemon sees failures")

    def test_wrong_values_are_refused_in_dockers_words(self):
        for check, words in (({"Interval": 1000}, "Interval in Healthcheck cannot be less than 1ms"), ({"Timeout": 1}, "Timeout in Healthcheck cannot be less than 1ms"),
                             ({"StartPeriod": -5}, "StartPeriod in Healthcheck cannot be less than 1ms"), ({"StartInterval": 7}, "StartInterval in Healthcheck cannot be less than 1ms"),
                             ({"Retries": -1}, "Retries in Healthcheck cannot be negative")):
            with self.subTest(check=check):
                status, _, body = self.engine.request("POST", "/containers/create", {"Image": "busybox", "Healthcheck": {"Test": ["CMD", "true"], **check}})
                self.assertEqual((status, json.loads(body)["message"]), (400, words))

    def test_many_checks_cost_one_thread(self):
        first = self.run_detached("--health-cmd", "true", "--health-interval", "1s")
        self.wait_for(first, "healthy")
        before = thread_count(self.engine.process.pid)
        names = [self.run_detached("--network", "none", "--health-cmd", "true", "--health-interval", "500ms") for _ in range(12)]
        for name in names:
            self.wait_for(name, "healthy")
        # Threads of the server come and go with requests; a thread per container would show.
        wait_until(lambda: thread_count(self.engine.process.pid) <= before + 4, lambda: f"{thread_count(self.engine.process.pid)} threads, {before} before")


def story(run, events):
    """What one health check looks like from outside: health after each step, and its events (execDuration is younger than dockerd 20.10).
    No step depends on how fast it is done: where a probe could come between, it is held by a file in the container."""
    told = []
    health = lambda: json.loads(run("inspect", "--format", "{{json .State.Health}}", "hc"))
    run("run", "-d", "--name", "hc", "--health-cmd", "echo hi; while test -e /hold; do sleep 0.1; done; test -e /ok", "--health-interval", "1s", "--health-retries", "2", "busybox", "sleep", "1000")
    wait_until(lambda: health()["Status"] == "unhealthy", "unhealthy", 30)
    told.append(("failed", health()["Log"][0]["ExitCode"], health()["Log"][0]["Output"]))
    run("exec", "hc", "touch", "/ok")
    wait_until(lambda: health()["Status"] == "healthy", "healthy", 30)
    told.append(("ps", run("ps", "--format", "{{.Status}}").split("(")[-1]))
    run("pause", "hc")
    told.append(("paused", health()["Status"]))
    run("unpause", "hc")
    wait_until(lambda: health()["Status"] == "healthy", "healthy again", 30)

    def stops_between_probes():
        run("stop", "-t", "0", "hc")
        if health()["Log"][-1]["ExitCode"] == 0:
            return True
        # A probe that a stop interrupts counts as failed or not, as it happens, with dockerd too.
        run("start", "hc")
        wait_until(lambda: health()["Status"] == "healthy", "healthy after an interrupted probe", 30)
        return False

    wait_until(stops_between_probes, "a stop while no probe is under way", 60)
    told.append(("stopped", health()["Status"], health()["FailingStreak"]))
    with tempfile.TemporaryDirectory(prefix=caisson.PREFIX) as folder:
        with open(f"{folder}/hold", "w", encoding="utf-8"):
            pass
        run("cp", f"{folder}/hold", "hc:/hold")
    run("start", "hc")
    told.append(("started again", health()["Status"], len(health()["Log"]) > 0))
    run("rm", "-f", "hc")
    actions = []
    for line in events().splitlines():
        event = json.loads(line)
        if event["Type"] == "container" and event["Action"] != "exec_create: touch /ok" and event["Action"] != "exec_start: touch /ok":
            actions.append((event["Action"], sorted(key for key in event["Actor"]["Attributes"] if key != "execDuration")))
    told.append(sorted(set((action, tuple(keys)) for action, keys in actions)))
    until_the_stop = [action for action, _ in actions][:next(at for at, (action, _) in enumerate(actions) if action == "kill")]
    told.append([action for action in until_the_stop if action.startswith("health_status")])
    return told


@unittest.skipIf(peers.PrivateDockerd.why_not(), peers.PrivateDockerd.why_not())
class BesideDockerd(caisson.EngineTest):
    maxDiff = None

    @caisson.needs_cgroups
    def test_the_same_story_is_told(self):
        began = str(int(time.time()))
        ours = story(lambda *words: self.engine.docker(*words, check=0).stdout.strip(),
                     lambda: self.engine.docker("events", "--since", began, "--until", str(int(time.time()) + 1), "--format", "{{json .}}", check=0).stdout)
        with peers.PrivateDockerd() as dockerd:
            dockerd.docker("import", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin:/usr/bin", "-", "busybox:latest", stdin=caisson.busybox_rootfs(), check=0)
            began = str(int(time.time()))
            theirs = story(lambda *words: dockerd.docker(*words, check=0).stdout.decode().strip(),
                           lambda: dockerd.docker("events", "--since", began, "--until", str(int(time.time()) + 1), "--format", "{{json .}}", check=0).stdout.decode())
        self.assertEqual(ours, theirs)


if __name__ == "__main__":
    caisson.main()
