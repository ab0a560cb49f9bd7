#!/usr/bin/env python3
"""Records what the docker command line sends for given arguments, as golden data for src/cli's tests.

Usage: tools/record_docker_cli.py [--docker PATH] [--only NAME] [--output FILE]

A tiny HTTP server on a unix socket plays the daemon (API 1.45): it answers just enough for each command to go on, and
writes down method, path, query and JSON body of every request. The files and the environment that a case needs are part
of the case, so that the test can lay them out again. Needs no daemon, no root and no network.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler

ID = "f" * 12 + "0" * 52
CONTAINER = {"Id": ID, "Name": "/web", "State": {"Status": "running", "Running": True, "Paused": False, "Restarting": False},
             "Config": {"Tty": False, "OpenStdin": False, "Image": "img"}, "HostConfig": {"LogConfig": {"Type": "json-file"}},
             "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]}}}
NETWORK_SPEC = {"files": {"env": "# comment\nA=1\nFROM_ENV\nUNSET_ONE\nB=two words\n", "labels": "x=1\n# no\ny=2\n", "seccomp.json": '{ "defaultAction": "SCMP_ACT_ALLOW" }\n'},
                "env": {"FROM_ENV": "yes"}}

# One line per case: the arguments after "docker". "create" cases are the bulk: run sends the same body.
CREATE = """
plain: create img
command: create img sh -c 'echo $HOME'
command_flags: create img -it --rm x
interactive: create -i img
tty: create -it img sh
attach: create -a stdout -a stderr img
attach_stdin: create -a stdin -i img
name_host: create --name web --hostname h1 --domainname example.org img
env: create -e A=1 -e FROM_ENV -e UNSET_ONE -e EMPTY= img
env_file: create --env-file env -e C=3 img
labels: create -l a=1 --label b --label-file labels img
publish: create -p 8080:80 -p 127.0.0.1:5353:53/udp -p 443 img
publish_range: create -p 8000-8002:80-82 img
publish_pool: create -p 8000-8010:80 img
publish_ip_any: create -p 10.0.0.1::80/tcp img
publish_ipv6: create -p '[::1]:8080:80' img
publish_all: create -P --expose 81 --expose 90-92/udp img
publish_sctp: create -p 99:99/sctp img
publish_twice: create -p 8080:80 -p 8081:80 img
volumes: create -v /h:/c -v vol:/d:ro -v /anon img
volumes_options: create -v /h:/c:ro,z,rprivate -v named:/n:nocopy img
volumes_from: create --volumes-from a:ro --volumes-from b --volume-driver local img
mount_bind: create --mount type=bind,source=/h,target=/c,readonly,bind-propagation=rslave img
mount_volume: create --mount type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=1,volume-driver=local,volume-opt=o=x img
mount_volume_default: create --mount source=v,target=/v img
mount_volume_subpath: create --mount source=v,target=/v,volume-subpath=a/b img
mount_tmpfs: create --mount type=tmpfs,target=/t,tmpfs-size=10m,tmpfs-mode=1770 img
mount_bind_options: create --mount type=bind,src=/h,dst=/c,bind-nonrecursive=true,ro=1 img
mount_bind_recursive: create --mount type=bind,src=/h,dst=/c,bind-recursive=disabled img
tmpfs: create --tmpfs /run --tmpfs /tmp:rw,size=64m img
resources: create -m 64m --memory-reservation 32m --memory-swap 128m --cpus 1.5 --pids-limit 50 -c 512 img
swap_unlimited: create -m 1g --memory-swap -1 --memory-swappiness 10 --oom-kill-disable --oom-score-adj 100 img
cpu: create --cpu-period 100000 --cpu-quota 50000 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-rt-period 1 --cpu-rt-runtime 2 img
blkio: create --blkio-weight 100 --blkio-weight-device /dev/sda:200 --device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2mb --device-read-iops /dev/sda:10 --device-write-iops /dev/sda:20 img
kernel_memory: create --kernel-memory 10m --shm-size 128m img
ulimits: create --ulimit nofile=1024:2048 --ulimit nproc=100 --ulimit core=-1 img
devices: create --device /dev/null --device /dev/zero:/dev/z --device /dev/full:rw --device /dev/tty:/dev/t:r --device-cgroup-rule 'c 1:3 mr' img
cdi_device: create --device vendor.com/gpu=all img
gpus_all: create --gpus all img
gpus_count: create --gpus 2 img
gpus_devices: create --gpus '"device=0,1",capabilities=compute' img
capabilities: create --cap-add NET_ADMIN --cap-add cap_sys_time --cap-drop ALL img
security: create --security-opt no-new-privileges --security-opt label=disable --security-opt apparmor=unconfined img
seccomp_file: create --security-opt seccomp=seccomp.json img
seccomp_unconfined: create --security-opt seccomp=unconfined img
seccomp_colon: create --security-opt seccomp:unconfined img
systempaths: create --security-opt systempaths=unconfined img
privileged: create --privileged --read-only --init img
namespaces: create --pid host --ipc host --uts host --userns host --cgroupns private img
namespaces_container: create --pid container:x --ipc container:y img
user: create -u 1000:1000 --group-add video --group-add 100 -w /srv img
entrypoint: create --entrypoint /bin/sh img -c true
entrypoint_empty: create --entrypoint '' img x
network_none: create --network none img
network_host: create --network host img
network_container: create --network container:x img
network_named: create --network n1 --network-alias a --network-alias b --ip 10.0.0.5 --ip6 fd00::5 --link-local-ip 169.254.1.1 img
network_advanced: create --network name=n1,alias=x,ip=10.0.0.9,driver-opt=a=b,mac-address=02:42:ac:11:00:02 img
network_two: create --network n1 --network n2 img
network_priority: create --network name=n1,gw-priority=5 img
dns: create --dns 1.1.1.1 --dns-search example.org --dns-option ndots:2 --add-host db:10.0.0.1 --add-host v6:[::1] --add-host eq=10.0.0.2 img
mac: create --mac-address 02:42:ac:11:00:02 img
links: create --link db:database --link web img
restart: create --restart on-failure:3 img
restart_always: create --restart unless-stopped img
rm: create --rm img
stop: create --stop-signal INT --stop-timeout 3 img
logging: create --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 img
health: create --health-cmd 'curl -f x' --health-interval 5s --health-timeout 1m30s --health-retries 3 --health-start-period 500ms --health-start-interval 2s img
no_healthcheck: create --no-healthcheck img
sysctl: create --sysctl net.core.somaxconn=1024 --sysctl kernel.msgmax=65536 img
storage: create --storage-opt size=10G --runtime runc --isolation default --cgroup-parent /x img
annotation: create --annotation a=b --annotation c=d img
platform: create --platform linux/arm64 img
bool_false: create --init=false --privileged=false --tty=true img
dashdash: create --name x -- img --opt
joined_short: create -p80:80 -eA=1 -itu root img
digest: create img@sha256:0123456789012345678901234567890123456789012345678901234567890123
registry: create localhost:5000/a/b:1
network_bridge: create --network bridge --ip 172.17.0.9 img
network_host_ip: create --network host --ip 1.2.3.4 img
network_mac: create --network n1 --mac-address 02:42:ac:11:00:02 img
network_links: create --link a:b --network n1 img
network_container_mac: create --network container:x --mac-address 02:42:ac:11:00:02 img
volume_odd: create -v /a:/b:foo -v ab:cd:e:f img
tmpfs_odd: create --tmpfs '' --tmpfs /x:a:b img
log_opt_bare: create --log-opt a img
annotation_bare: create --annotation a img
restart_count: create --restart always:3 img
capabilities_all: create --cap-add foo --cap-add all --cap-add foo --cap-add BAR img
link_empty_name: create --link :a img
volumes_from_empty: create --volumes-from '' img
cidfile: create --cidfile cid img
ipc_unknown: create --ipc foo img
mount_image: create --mount type=image,source=i,target=/x img
mount_quoted: create --mount '"type=bind","source=/a,b",target=/x' img
mount_consistency: create --mount type=bind,src=/h,dst=/c,consistency=cached img
mount_recursive_writable: create --mount type=bind,src=/h,dst=/c,readonly,bind-recursive=writable img
ulimit_twice: create --ulimit nofile=1 --ulimit nofile=2:3 img
publish_sorted: create -p 9000:9000 -p 80:80 --expose 80 img
stop_timeout_zero: create --stop-timeout 0 img
empty_entrypoint_only: create --entrypoint '' img
swappiness_zero: create --memory-swappiness 0 img
attach_all: create -a STDIN -a STDOUT -a STDERR img
run_detached: run -d --name x img
run_detached_interactive: run -dit img sh
"""

OTHER = """
start: start a b
stop: stop -t 1 -s INT a
stop_plain: stop a
restart: restart -t 2 a
kill: kill a
kill_signal: kill -s TERM a b
pause: pause a
unpause: unpause a
wait: wait a b
rm: rm a
rm_force: rm -fv a
ps: ps
ps_all: ps -a
ps_last: ps -n 2
ps_latest: ps -l
ps_size: ps -as
ps_filter: ps -f label=a=b -f label=c -f status=running
ps_format_size: ps --format {{.Size}}
logs: logs web
logs_follow: logs -ft --tail 5 --since 2026-01-01T00:00:00Z --until 1700000000 web
rename: rename a b
update: update --memory 64m --cpus 2 --restart always --pids-limit 10 a
top: top a -o pid
port: port web
port_one: port web 80/tcp
exec_detached: exec -d -e A=1 -w /x -u root web sh -c x
images: images
images_all: images -a -f dangling=true
images_name: images alpine
tag: tag a localhost:5000/b:1
rmi: rmi -f a b
rmi_no_prune: rmi --no-prune a
history: history a
image_prune: image prune -f
image_prune_all: image prune -af --filter until=24h
volume_create: volume create -d local --label a=1 -o type=tmpfs v1
volume_create_anonymous: volume create
volume_ls: volume ls -f dangling=true
volume_inspect: volume inspect v1
volume_rm: volume rm -f v1
volume_prune: volume prune -f
volume_prune_all: volume prune -af
network_ls: network ls -f driver=bridge
network_inspect: network inspect -v n1
container_prune: container prune -f --filter until=1h
save: save -o out.tar a b
load: load -q -i in.tar
import: import -m msg -c 'CMD ["x"]' in.tar imp:1
inspect: inspect --type container web
inspect_size: container inspect -s web
version: version
info: info
system_df: system df
events: events --since 1 --until 2 -f type=container
"""


# What the daemon answers while tables are recorded. NOW_3H stands for "three hours ago" in unix seconds, so that ages stay the same.
NOW_3H = -3
NOW_3H_TEXT = "three hours ago"  # the same where the API has a text
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC"
DISK_USAGE = {
    "LayersSize": 1092588,
    "Images": [{"Id": "sha256:" + "1" * 64, "ParentId": "", "RepoTags": ["nginx:latest"], "RepoDigests": [], "Created": NOW_3H, "Size": 1092588, "SharedSize": 1000, "Labels": {}, "Containers": 1},
               {"Id": "sha256:" + "2" * 64, "ParentId": "", "RepoTags": [], "RepoDigests": [], "Created": NOW_3H, "Size": 5000, "SharedSize": 0, "Labels": None, "Containers": 0}],
    "Containers": [{"Id": "a" * 64, "Names": ["/web"], "Image": "nginx", "ImageID": "sha256:" + "1" * 64, "Command": "nginx -g", "Created": NOW_3H, "Ports": [], "SizeRw": 1200, "SizeRootFs": 1093788,
                    "Labels": {}, "State": "exited", "Status": "Exited (0) 1 hour ago", "HostConfig": {"NetworkMode": "default"}, "NetworkSettings": {"Networks": {}},
                    "Mounts": [{"Type": "volume", "Name": "v1", "Source": "", "Destination": "/v", "Driver": "local", "Mode": "", "RW": True, "Propagation": ""}]}],
    "Volumes": [{"Name": "v1", "Driver": "local", "Mountpoint": "/m", "Labels": None, "Scope": "local", "Options": None, "UsageData": {"Size": 10920, "RefCount": 1}},
                {"Name": "v2", "Driver": "local", "Mountpoint": "/m2", "Labels": {}, "Scope": "local", "Options": {}, "UsageData": {"Size": 20, "RefCount": 0}}],
    "BuildCache": [{"ID": "hw53o5aio51xtltp5xjp8v7fx", "Parent": "", "Type": "regular", "Description": "pulled", "InUse": False, "Shared": True, "Size": 0, "CreatedAt": NOW_3H_TEXT,
                    "LastUsedAt": NOW_3H_TEXT, "UsageCount": 26},
                   {"ID": "ndlpt0hhvkqcdfkputsk4cq9c", "Parent": "hw53o5aio51xtltp5xjp8v7fx", "Type": "regular", "Description": "mount / from exec", "InUse": False, "Shared": False, "Size": 51,
                    "CreatedAt": NOW_3H_TEXT, "LastUsedAt": NOW_3H_TEXT, "UsageCount": 26}],
}
LISTS = {
    "system/df": DISK_USAGE,
    "plugins": [],
    "images/search": [{"name": "busybox", "description": "Busybox base image,\nwith a description that is longer than forty-five characters.", "star_count": 316, "is_official": True, "is_automated": False},
                      {"name": "radial/busyboxplus", "description": "Full-chain", "star_count": 19, "is_official": False, "is_automated": True}],
    "containers/json": [
        {"Id": "a" * 64, "Names": ["/web"], "Image": "nginx:latest", "ImageID": "sha256:" + "1" * 64, "Command": "nginx -g 'daemon off;' --with-many-words",
         "Created": NOW_3H, "State": "running", "Status": "Up 3 hours (healthy)", "SizeRw": 1095, "SizeRootFs": 190000000,
         "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                   {"PrivatePort": 443, "Type": "tcp"}],
         "Labels": {"b": "2", "a": "1", "com.docker.x": "y"}, "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
         "Mounts": [{"Type": "volume", "Name": "a-volume-with-a-long-name", "Source": "/x", "Destination": "/v", "Driver": "local"},
                    {"Type": "bind", "Source": "/h", "Destination": "/c"}]},
        {"Id": "b" * 64, "Names": ["/db", "/web/db"], "Image": "sha256:" + "2" * 64, "ImageID": "sha256:" + "2" * 64, "Command": "sh", "Created": NOW_3H,
         "State": "exited", "Status": "Exited (0) 2 hours ago", "Labels": {},
         "Ports": [{"IP": "127.0.0.1", "PrivatePort": p, "PublicPort": p + 7920, "Type": "tcp"} for p in (80, 81, 82)] + [{"PrivatePort": p, "Type": "udp"} for p in (53, 54)],
         "NetworkSettings": {"Networks": {}}, "Mounts": []}],
    "images/json": [
        {"Id": "sha256:" + "1" * 64, "RepoTags": ["nginx:latest", "localhost:5000/a/nginx:1.27"], "RepoDigests": ["nginx@sha256:" + "d" * 64], "Created": NOW_3H,
         "Size": 187654321, "SharedSize": -1, "Containers": -1, "Labels": None, "ParentId": ""},
        {"Id": "sha256:" + "2" * 64, "RepoTags": [], "RepoDigests": [], "Created": NOW_3H, "Size": 999, "SharedSize": -1, "Containers": -1, "Labels": None, "ParentId": ""}],
    "volumes": {"Volumes": [{"Name": "v2", "Driver": "local", "Scope": "local", "Mountpoint": "/m/v2", "Labels": {"k": "v"}, "Options": None},
                            {"Name": "v1", "Driver": "local", "Scope": "local", "Mountpoint": "/m/v1", "Labels": None, "Options": None}], "Warnings": None},
    "networks": [{"Name": "bridge", "Id": "c" * 64, "Created": "2026-01-02T03:04:05.678Z", "Scope": "local", "Driver": "bridge", "EnableIPv4": True, "EnableIPv6": False,
                  "Internal": False, "Labels": {"x": "y"}},
                 {"Name": "a-host", "Id": "d" * 64, "Created": "2026-01-02T03:04:05Z", "Scope": "local", "Driver": "host", "EnableIPv4": True, "EnableIPv6": True, "Internal": True, "Labels": {}}],
    "images/web/history": [{"Id": "sha256:" + "1" * 64, "Created": NOW_3H, "CreatedBy": "/bin/sh -c #(nop)  CMD [\"nginx\" \"-g\" \"daemon off;\"]", "Size": 0, "Comment": "", "Tags": ["x"]},
                           {"Id": "<missing>", "Created": NOW_3H, "CreatedBy": "ADD file", "Size": 74812345, "Comment": "imported", "Tags": None}],
    "containers/web/json": CONTAINER,
    "containers/web/top": {"Titles": ["UID", "PID", "CMD"], "Processes": [["root", "1", "nginx: master process"], ["www-data", "22222222222", "nginx: worker"]]},
}

TABLES = """
ps: ps
ps_all_size: ps -as
ps_quiet: ps -q
ps_no_trunc: ps --no-trunc
ps_json: ps --format json
ps_fields: ps --format '{{.ID}} {{.Names}} {{.Ports}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}} {{.State}}'
ps_label: ps --format '{{.Label "a"}}|{{.Label "nope"}}|{{.Labels}}'
ps_table: ps --format 'table {{.Names}}\\t{{.Status}}'
ps_table_functions: ps --format 'table {{upper .Names}}\\t{{json .Image}}\\t{{.Label "com.docker.x"}}'
ps_created: ps --format '{{.RunningFor}}|{{.Image}}|{{.Command}}|{{.Size}}'
ps_template: ps --format '{{if eq .State "running"}}{{lower .Names}}{{else}}-{{end}} {{len .ID}} {{printf "%5s|%-5s|%q" .State .State .Names}} {{truncate .ID 3}}{{pad .State 1 2}}.'
ps_pipeline: ps --format '{{.Names | upper | printf "%s!"}} {{with .Label "a"}}[{{.}}]{{else}}none{{end}} {{range $i, $p := split .Ports ","}}{{$i}}={{$p}};{{end}}'
images: images
images_digests: images --digests
images_quiet: images -q --no-trunc
images_json: images --format json
volume_ls: volume ls
volume_quiet: volume ls -q
volume_json: volume ls --format json
volume_fields: volume ls --format '{{.Name}} {{.Mountpoint}} {{.Labels}} {{.Size}} {{.Links}}'
network_ls: network ls
network_json: network ls --no-trunc --format '{{.ID}} {{.Name}} {{.IPv6}} {{.Internal}} {{.Labels}}'
history: history web
history_no_trunc: history --no-trunc --human=false --format '{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}' web
port: port web
port_one: port web 80
system_df: system df
system_df_verbose: system df -v
system_df_json: system df --format json
system_df_fields: system df --format '{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}'
search: search busybox
search_filter: search -f is-official=true --limit 5 busybox
search_no_trunc: search --no-trunc busybox
search_json: search --format json busybox
plugin_ls: plugin ls
top: top web
inspect: inspect --type container web
inspect_json: inspect --type container --format json web
inspect_field: inspect --type container --format '{{.State.Status}} {{.Config.Tty}} {{json .Config.Image}}' web
inspect_index: inspect --type container --format '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}' web
inspect_range: inspect --type container --format '{{range $p, $b := .NetworkSettings.Ports}}{{$p}} -> {{(index $b 0).HostIp}}{{end}}' web
"""


def aged(value):
    if isinstance(value, dict):
        return {k: aged(v) for k, v in value.items()}
    if isinstance(value, list):
        return [aged(v) for v in value]
    if value == NOW_3H_TEXT:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3 * 3600 - 600))
    return int(time.time()) - 3 * 3600 - 600 if value == NOW_3H and not isinstance(value, bool) else value


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, content_type="application/json"):
        body = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode() + b"\n"
        self.send_response(status)
        for key, text in (("Api-Version", "1.45"), ("Ostype", "linux"), ("Docker-Experimental", "false"), ("Content-Type", content_type)):
            self.send_header(key, text)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and body:
            self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while True:
                size = int(self.rfile.readline().strip(), 16)
                data += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        path = url.path.split("/", 2)[2] if url.path.startswith("/v1") else url.path.lstrip("/")
        data = self.body()
        if path != "_ping":
            record = {"method": self.command, "path": "/" + path,
                      "query": {k: v for k, v in urllib.parse.parse_qs(url.query, keep_blank_values=True).items()}}
            if data:
                try:
                    record["body"] = json.loads(data)
                except ValueError:
                    record["raw"] = data.decode(errors="replace")
            self.server.records.append(record)
        last = path.rsplit("/", 1)[-1]
        if self.server.lists is not None and path in self.server.lists:
            return self.answer(200, aged(self.server.lists[path]))
        if path == "_ping":
            return self.answer(200, b"OK", "text/plain")
        if self.command == "DELETE":
            return self.answer(200 if path.startswith("images/") else 204, [] if path.startswith("images/") else None)
        if path == "containers/create" or path.endswith("/exec"):
            return self.answer(201, {"Id": ID, "Warnings": []})
        if path == "volumes/create":
            return self.answer(201, {"Name": "v1", "Driver": "local", "Mountpoint": "/m", "Labels": {}, "Scope": "local", "Options": {}})
        if last == "wait":
            return self.answer(200, {"StatusCode": 0})
        if last == "update":
            return self.answer(200, {"Warnings": []})
        if last in ("prune", ):
            return self.answer(200, {"SpaceReclaimed": 0})
        if path == "volumes":
            return self.answer(200, {"Volumes": [], "Warnings": None})
        if path.endswith("/json") and path not in ("containers/json", "images/json"):
            return self.answer(200, CONTAINER)
        if last == "top":
            return self.answer(200, {"Titles": ["PID"], "Processes": [["1"]]})
        if last == "tag":
            return self.answer(201, None)
        if path in ("version", "info", "system/df") or path.startswith(("volumes/", "networks/")):
            return self.answer(200, {"ApiVersion": "1.45", "Name": "n1", "Id": ID})
        if path in ("images/load", "images/create"):
            return self.answer(200, {"status": "ok"})
        if self.command == "GET":
            return self.answer(200, b"", "application/octet-stream") if last in ("logs", "get") else self.answer(200, b"", "application/json") if path == "events" else self.answer(200, [])
        self.answer(200 if last == "start" and path.startswith("exec") else 204, None)

    do_GET = do_POST = do_HEAD = do_DELETE = do_PUT = serve


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    records = []
    lists = None

    def get_request(self):
        request, _ = super().get_request()
        return request, ("local", 0)


def run_case(docker, work, server, arguments, environment):
    server.records = []
    process = subprocess.run([docker, "-H", "unix://" + server.server_address] + arguments, cwd=work, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20,
                             env={"PATH": "/usr/bin:/bin", "HOME": work, "DOCKER_CONFIG": work + "/.docker", **environment})
    return process, list(server.records)


# Groups that belong to swarm; the engine refuses all of them alike.
SWARM = ("swarm", "node", "service", "stack", "secret", "config")


def help_of(docker, path):
    """(subcommands, flags, aliases) that `docker PATH --help` lists; a flag is [name, letter, has a value]."""
    text = subprocess.run([docker, *path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode()
    commands, flags, section = [], [], ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            section = "commands" if line.endswith("Commands:") else "flags" if line.endswith("Options:") else ""
        elif section == "commands" and (found := re.match(r"  ([a-z][a-z-]*)\*? ", line)):
            commands.append(found[1])
        elif section == "flags" and (found := re.match(r"\s+(?:-(\w), )?--([\w-]+)(?: (\S+))?(?:\s{2,}|$)", line)):
            flags.append([found[2], found[1] or "", bool(found[3])])
    aliases = re.search(r"^Aliases:\n +(.*)$", text, re.M)
    return commands, flags, [alias.strip().removeprefix("docker ") for alias in aliases[1].split(",")] if aliases else []


def record_commands(docker):
    """Every command outside swarm, by its path."""
    found, waiting = {}, [()]
    while waiting:
        path = waiting.pop()
        commands, flags, aliases = help_of(docker, path)
        waiting += [(*path, command) for command in commands if command not in SWARM]
        if path and not commands:
            found[" ".join(path)] = {"flags": sorted(flags), "aliases": aliases}
    return dict(sorted(found.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docker", default="docker")
    parser.add_argument("--only")
    parser.add_argument("--output", default=os.path.join(os.path.dirname(__file__), "../tests/data/cli/docker_requests.json"))
    options = parser.parse_args()
    options.docker = shutil.which(options.docker) or options.docker
    cases = []
    with tempfile.TemporaryDirectory(prefix="caisson-record-") as work:
        for name, text in {**NETWORK_SPEC["files"], "in.tar": "not really a tar\n"}.items():
            with open(os.path.join(work, name), "w", encoding="utf-8") as file:
                file.write(text)
        server = Server(os.path.join(work, "docker.sock"), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for line in (CREATE + OTHER).strip().splitlines():
            if not line.strip():
                continue
            name, text = line.split(": ", 1)
            if options.only and options.only != name:
                continue
            arguments = shlex.split(text)
            process, records = run_case(options.docker, work, server, arguments, NETWORK_SPEC["env"])
            if process.returncode != 0 and not records:
                print(f"{name}: docker failed: {process.stderr.decode()}", file=sys.stderr)
                return 1
            if process.returncode != 0:
                print(f"{name}: note: exit code {process.returncode}: {process.stderr.decode().strip()}", file=sys.stderr)
            cases.append({"name": name, "arguments": arguments, "requests": records})
        server.lists = LISTS
        tables = []
        for line in TABLES.strip().splitlines():
            name, text = line.split(": ", 1)
            process, _ = run_case(options.docker, work, server, shlex.split(text), {})
            tables.append({"name": name, "arguments": shlex.split(text), "exit_code": process.returncode, "output": re.sub(TIME, "TIME", process.stdout.decode()), "error": process.stderr.decode()})
        server.shutdown()
    version = subprocess.run([options.docker, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    with open(os.path.join(os.path.dirname(options.output), "docker_commands.json"), "w", encoding="utf-8") as file:
        json.dump({"recorded_from": version, "commands": record_commands(options.docker)}, file, separators=(",", ":"))
        file.write("\n")
    document = {"recorded_from": version, "files": NETWORK_SPEC["files"], "environment": NETWORK_SPEC["env"], "cases": cases, "lists": LISTS, "tables": tables}
    with open(options.output, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    print(f"{len(cases)} cases written to {os.path.normpath(options.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
