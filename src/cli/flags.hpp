// The flags of every command, as data. Included by table.cpp only.
#pragma once

#include <array>
#include <string_view>

#include "cli/command.hpp"

namespace caisson::cli::flags {

using enum FlagType;

/// A switch.
constexpr Flag on(std::string_view name, char letter, std::string_view help, std::string_view default_text = "") {
  return {name, letter, boolean, "", help, default_text, Words::none, false, ""};
}
/// A flag with a value.
constexpr Flag of(std::string_view name, char letter, FlagType type, std::string_view value_name, std::string_view help,
                  std::string_view default_text = "", Words words = Words::none) {
  return {name, letter, type, value_name, help, default_text, words, false, ""};
}
/// The same flag with values that the shell offers.
constexpr Flag with_choices(Flag flag, std::string_view choices) {
  flag.choices = choices;
  return flag;
}
/// A flag whose value may be left out.
constexpr Flag with_bare_value(Flag flag, std::string_view bare_value) {
  flag.bare_value = bare_value;
  return flag;
}
/// A second spelling, not shown.
constexpr Flag also(std::string_view name, char letter, std::string_view same_as, FlagType type) {
  return {name, letter, type, "", "", "", Words::none, true, same_as};
}

/// A flag of docker's that we refuse; not shown, since it does nothing here.
constexpr Flag refused(std::string_view name, FlagType type, std::string_view why) {
  Flag flag{name, 0, type, type == boolean ? "" : "value", "", "", Words::none, true, ""};
  flag.refusal = why;
  return flag;
}

// Why flags are refused.
inline constexpr std::string_view for_windows = "it is about Windows containers";
inline constexpr std::string_view for_swarm = "cluster volumes need a swarm, and this engine runs on one host";
inline constexpr std::string_view for_checkpoints = "containers cannot be started from a checkpoint; 'caisson-runtime restore' restores bundles";

// Values that several flags share.
inline constexpr std::string_view restart_policies = "no always unless-stopped on-failure on-failure:";
inline constexpr std::string_view signals =
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT STOP TSTP TTIN TTOU WINCH";
inline constexpr std::string_view capabilities =
    "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER "
    "KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID "
    "SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM";
inline constexpr std::string_view platforms = "linux/amd64 linux/arm64 linux/riscv64";
inline constexpr std::string_view list_formats = "json table";

template <std::size_t A, std::size_t B>
constexpr std::array<Flag, A + B> operator+(const std::array<Flag, A>& a, const std::array<Flag, B>& b) {
  std::array<Flag, A + B> out{};
  for (std::size_t i = 0; i < A; ++i) out[i] = a[i];
  for (std::size_t i = 0; i < B; ++i) out[A + i] = b[i];
  return out;
}

inline constexpr std::array global = {
    of("config", 0, text, "string", "Folder with the client's own settings", "", Words::files),
    of("context", 'c', text, "string", "A docker context that names the daemon", "", Words::contexts),
    on("debug", 'D', "Show what the client does"),
    of("exec-root", 0, text, "string", "Folder for the engine's run-time state; used when the daemon has to be started", "", Words::files),
    of("host", 'H', list, "list", "The daemon's socket: unix:///path or tcp://host:port"),
    with_choices(of("log-level", 'l', text, "string", "How much is logged: debug, info, warn, error or fatal", "info"), "debug info warn error fatal"),
    of("root", 0, text, "string", "Folder for images and containers; used when the daemon has to be started", "", Words::files),
    on("tls", 0, "Speak TLS to a tcp:// daemon"),
    of("tlscacert", 0, text, "string", "Certificate of the CA that signed the daemon's", "~/.docker/ca.pem", Words::files),
    of("tlscert", 0, text, "string", "The client's certificate", "~/.docker/cert.pem", Words::files),
    of("tlskey", 0, text, "string", "The client's key", "~/.docker/key.pem", Words::files),
    on("tlsverify", 0, "Speak TLS, and demand that the CA has signed the daemon's certificate"),
    on("version", 'v', "Print the version and leave"),
};

/// What a container may use; run, create and update take these.
inline constexpr std::array limits = {
    of("blkio-weight", 0, uint16, "uint16", "Share of block I/O, 10 to 1000; 0 leaves it alone", "0"),
    of("cpu-period", 0, integer, "int", "Length of a scheduling period, in microseconds"),
    of("cpu-quota", 0, integer, "int", "Processor time per period, in microseconds"),
    of("cpu-rt-period", 0, integer, "int", "Length of a real-time period, in microseconds"),
    of("cpu-rt-runtime", 0, integer, "int", "Real-time processor time per period, in microseconds"),
    of("cpu-shares", 'c', integer, "int", "Share of the processors against other containers"),
    of("cpus", 0, decimal, "decimal", "Number of processors, such as 1.5"),
    of("cpuset-cpus", 0, text, "string", "Processors it may run on, such as 0-3 or 0,1"),
    of("cpuset-mems", 0, text, "string", "Memory nodes it may use, such as 0-3 or 0,1"),
    of("memory", 'm', bytes, "bytes", "Most memory it may use"),
    of("memory-reservation", 0, bytes, "bytes", "Memory it is left with when the host runs short"),
    of("memory-swap", 0, swap_bytes, "bytes", "Most memory and swap together; -1 is without limit"),
    of("pids-limit", 0, integer, "int", "Most processes; -1 is without limit"),
    of("kernel-memory", 0, bytes, "bytes", "No longer has an effect"),
};

inline constexpr std::array create_only = {
    of("add-host", 0, list, "list", "Add a line to /etc/hosts (name:address)"),
    of("annotation", 0, list, "map", "Hand a note through to the runtime (key=value)"),
    with_choices(of("attach", 'a', list, "list", "Connect standard input, output or error"), "stdin stdout stderr"),
    of("blkio-weight-device", 0, list, "list", "Share of one device's I/O (path:weight)"),
    with_choices(of("cap-add", 0, list, "list", "Give a Linux capability"), capabilities),
    with_choices(of("cap-drop", 0, list, "list", "Take a Linux capability away"), capabilities),
    of("cgroup-parent", 0, text, "string", "Put the container's cgroup below this one"),
    with_choices(of("cgroupns", 0, text, "string", "Cgroup namespace: host or private"), "host private"),
    of("cidfile", 0, text, "string", "Write the container's id to this file", "", Words::files),
    of("device", 0, list, "list", "Make a device of the host usable inside (host[:inside[:rwm]])", "", Words::files),
    of("device-cgroup-rule", 0, list, "list", "Allow devices by number, such as 'c 1:3 mr'"),
    of("device-read-bps", 0, list, "list", "Limit reading from a device, in bytes per second (path:rate)"),
    of("device-read-iops", 0, list, "list", "Limit reading from a device, in operations per second (path:rate)"),
    of("device-write-bps", 0, list, "list", "Limit writing to a device, in bytes per second (path:rate)"),
    of("device-write-iops", 0, list, "list", "Limit writing to a device, in operations per second (path:rate)"),
    on("disable-content-trust", 0, "Do not verify the image's signature", "true"),
    of("dns", 0, list, "list", "Ask this name server"),
    of("dns-option", 0, list, "list", "Add an option to resolv.conf"),
    of("dns-search", 0, list, "list", "Look names up in this domain"),
    of("domainname", 0, text, "string", "The container's NIS domain name"),
    of("entrypoint", 0, text, "string", "Run this program instead of the image's ENTRYPOINT"),
    of("env", 'e', list, "list", "Set an environment variable; a bare name takes the value from here"),
    of("env-file", 0, list, "list", "Read environment variables from a file", "", Words::files),
    of("expose", 0, list, "list", "Say that a port or a range of ports is served"),
    of("gpus", 0, text, "gpu-request", "GPUs to make usable ('all' for every one)"),
    of("group-add", 0, list, "list", "Run with this additional group"),
    of("health-cmd", 0, text, "string", "Command that tells whether the container is well"),
    of("health-interval", 0, duration, "duration", "Time between two checks (ms|s|m|h)", "0s"),
    of("health-retries", 0, integer, "int", "Failures in a row that make it unhealthy"),
    of("health-start-interval", 0, duration, "duration", "Time between two checks while it starts (ms|s|m|h)", "0s"),
    of("health-start-period", 0, duration, "duration", "Time to start before failures count (ms|s|m|h)", "0s"),
    of("health-timeout", 0, duration, "duration", "Longest time one check may take (ms|s|m|h)", "0s"),
    of("hostname", 'h', text, "string", "The container's host name"),
    on("init", 0, "Run an init that forwards signals and reaps processes"),
    on("interactive", 'i', "Keep standard input open"),
    of("ip", 0, text, "string", "IPv4 address, such as 172.30.100.104"),
    of("ip6", 0, text, "string", "IPv6 address, such as 2001:db8::33"),
    with_choices(of("ipc", 0, text, "string", "IPC namespace: private, shareable, host, none or container:NAME"), "private shareable host none container:"),
    with_choices(of("isolation", 0, text, "string", "How the container is isolated"), "default"),
    of("label", 'l', list, "list", "Attach a label (key=value)"),
    of("label-file", 0, list, "list", "Read labels from a file, one per line", "", Words::files),
    of("link", 0, list, "list", "Make another container known by name (container[:alias])", "", Words::containers),
    of("link-local-ip", 0, list, "list", "Link-local address"),
    of("log-driver", 0, text, "string", "Where output is logged", "", Words::log_drivers),
    of("log-opt", 0, list, "list", "Option of the log driver (key=value)"),
    of("mac-address", 0, text, "string", "Ethernet address, such as 92:d0:c6:0a:29:33"),
    of("memory-swappiness", 0, integer, "int", "How readily memory is swapped out, 0 to 100", "-1"),
    with_choices(of("mount", 0, list, "mount", "Attach a bind mount, a volume or a tmpfs (type=…,source=…,target=…)"), "type=bind, type=volume, type=tmpfs,"),
    of("name", 0, text, "string", "The container's name"),
    of("network", 0, list, "network", "Network to join: a name, bridge, host, none or container:NAME", "", Words::networks),
    of("network-alias", 0, list, "list", "Further name within the network"),
    on("no-healthcheck", 0, "Do not run the image's health check"),
    on("oom-kill-disable", 0, "Pause instead of killing when memory runs out"),
    of("oom-score-adj", 0, integer, "int", "How readily the host kills it when memory runs out, -1000 to 1000"),
    with_choices(of("pid", 0, text, "string", "PID namespace: host or container:NAME"), "host container:"),
    with_choices(of("platform", 0, text, "string", "Platform of the image, such as linux/amd64"), platforms),
    on("privileged", 0, "Give the container every right on the host"),
    of("publish", 'p', list, "list", "Publish a port on the host ([[address:][port]:]inside[/protocol])"),
    on("publish-all", 'P', "Publish every exposed port on a free one"),
    with_choices(of("pull", 0, text, "string", "When to pull the image: always, missing or never", "missing"), "always missing never"),
    on("quiet", 'q', "Do not show the pull's progress"),
    on("read-only", 0, "Make the root file system read-only"),
    with_choices(of("restart", 0, text, "string", "When to start again: no, always, unless-stopped or on-failure[:times]", "no"), restart_policies),
    on("rm", 0, "Remove the container and its anonymous volumes when it ends"),
    of("runtime", 0, text, "string", "Runtime to use"),
    with_choices(of("security-opt", 0, list, "list", "Security option, such as seccomp=FILE or no-new-privileges"), "apparmor= label= log-refusals nesting no-new-privileges seccomp= systempaths=unconfined"),
    of("shm-size", 0, bytes, "bytes", "Size of /dev/shm"),
    with_choices(of("stop-signal", 0, text, "string", "Signal that asks the container to end"), signals),
    of("stop-timeout", 0, integer, "int", "Seconds until it is killed after that signal"),
    of("storage-opt", 0, list, "list", "Option of the storage driver (key=value)"),
    of("sysctl", 0, list, "map", "Kernel setting inside the container (name=value)"),
    of("tmpfs", 0, list, "list", "Mount a tmpfs (path[:options])"),
    on("tty", 't', "Give the container a terminal"),
    with_choices(of("ulimit", 0, list, "ulimit", "Resource limit (name=soft[:hard])"), "as= core= cpu= data= fsize= locks= memlock= msgqueue= nice= nofile= nproc= rss= rtprio= rttime= sigpending= stack="),
    of("user", 'u', text, "string", "User to run as (name|uid[:group|gid])"),
    with_choices(of("userns", 0, text, "string", "User namespace: host, or empty for an own one"), "host"),
    with_choices(of("uts", 0, text, "string", "UTS namespace: host"), "host"),
    of("volume", 'v', list, "list", "Mount a folder or a volume ([source:]target[:options])", "", Words::volumes),
    of("volume-driver", 0, text, "string", "Driver for the container's volumes"),
    of("volumes-from", 0, list, "list", "Mount another container's volumes", "", Words::containers),
    of("workdir", 'w', text, "string", "Working directory inside"),
    also("dns-opt", 0, "dns-option", list),
    also("net", 0, "network", list),
    also("net-alias", 0, "network-alias", list),
    refused("cpu-count", integer, for_windows),
    refused("cpu-percent", integer, for_windows),
    refused("io-maxbandwidth", bytes, for_windows),
    refused("io-maxiops", integer, for_windows),
    refused("use-api-socket", boolean, "whoever has the engine's socket is root on the host; mount it by -v where that is meant"),
};

inline constexpr std::array run_only = {
    on("detach", 'd', "Run in the background and print the container's id"),
    of("detach-keys", 0, text, "string", "Keys that leave the container running, such as ctrl-p,ctrl-q"),
    on("sig-proxy", 0, "Pass signals on to the container", "true"),
};

inline constexpr auto create = create_only + limits;
inline constexpr auto run = create + run_only;
inline constexpr auto update = limits + std::array{with_choices(of("restart", 0, text, "string", "When to start again: no, always, unless-stopped or on-failure[:times]"), restart_policies)};

inline constexpr Flag format_list = with_choices(of("format", 0, text, "string",
    "How to print: 'table', 'json', or a template such as '{{.ID}}' or 'table {{.ID}}\\t{{.Names}}'"), list_formats);
inline constexpr Flag format_object = with_choices(of("format", 'f', text, "string", "How to print: 'json', or a template such as '{{.Id}}'"), "json");
inline constexpr Flag filter = of("filter", 'f', list, "filter", "Show only what matches (key=value)");
inline constexpr Flag ps_filter = with_choices(filter,
    "ancestor= before= exited= expose= health=healthy health=none health=starting health=unhealthy id= is-task=false label= name= network= publish= since= "
    "status=created status=dead status=exited status=paused status=removing status=restarting status=running volume=");
inline constexpr Flag images_filter = with_choices(filter, "before= dangling=false dangling=true label= reference= since= until=");
inline constexpr Flag volume_filter = with_choices(filter, "dangling=false dangling=true driver=local label= name=");
inline constexpr Flag network_filter = with_choices(filter,
    "dangling=false dangling=true driver=bridge driver=host driver=null id= label= name= scope=local type=builtin type=custom");
inline constexpr Flag events_filter = with_choices(filter,
    "container= daemon= event=attach event=create event=destroy event=die event=exec_create event=exec_start event=health_status event=kill event=oom "
    "event=pause event=pull event=rename event=restart event=start event=stop event=tag event=unpause event=untag image= label= network= "
    "type=container type=daemon type=image type=network type=volume volume=");
inline constexpr Flag prune_filter = with_choices(of("filter", 0, list, "filter", "Remove only what matches (key=value)"), "label= label!= until=");
inline constexpr Flag volume_prune_filter = with_choices(of("filter", 0, list, "filter", "Remove only what matches (key=value)"), "all=true label= label!=");
inline constexpr Flag prune_force = on("force", 'f', "Do not ask");
inline constexpr Flag no_trunc = on("no-trunc", 0, "Show everything in full");
inline constexpr Flag detach_keys = of("detach-keys", 0, text, "string", "Keys that leave the container running, such as ctrl-p,ctrl-q");
inline constexpr Flag signal = with_choices(of("signal", 's', text, "string", "Signal to send"), signals);
inline constexpr Flag timeout = of("timeout", 't', integer, "int", "Seconds until it is killed");

inline constexpr std::array start = {on("attach", 'a', "Show its output and pass signals on"), detach_keys,
                                     on("interactive", 'i', "Connect standard input"), refused("checkpoint", text, for_checkpoints),
                                     refused("checkpoint-dir", text, for_checkpoints)};
inline constexpr std::array stop = {signal, timeout, also("time", 0, "timeout", integer)};
inline constexpr std::array kill = {signal};
inline constexpr std::array rm = {on("force", 'f', "Kill it first when it runs"), on("link", 'l', "Remove a link, not the container"),
                                  on("volumes", 'v', "Remove its anonymous volumes too")};
inline constexpr std::array ps = {on("all", 'a', "Show stopped ones too"), ps_filter, format_list,
                                  of("last", 'n', integer, "int", "Show the n newest ones, running or not", "-1"),
                                  on("latest", 'l', "Show the newest one, running or not"), no_trunc,
                                  on("quiet", 'q', "Show ids only"), on("size", 's', "Show disk usage")};
inline constexpr std::array inspect = {format_object, on("size", 's', "Show disk usage, for containers"),
                                       with_choices(of("type", 0, text, "string", "Only objects of this kind: container, image, volume or network"), "container image network volume")};
inline constexpr std::array inspect_container = {format_object, on("size", 's', "Show disk usage")};
inline constexpr std::array inspect_plain = {format_object};
inline constexpr std::array logs = {on("details", 0, "Show additional attributes"), on("follow", 'f', "Go on showing what comes"),
                                    of("since", 0, text, "string", "Only from this time on (2026-01-02T13:23:37Z, or 42m for 42 minutes ago)"),
                                    of("tail", 'n', text, "string", "Only so many of the last lines", "all"),
                                    on("timestamps", 't', "Show when each line was written"),
                                    of("until", 0, text, "string", "Only up to this time (2026-01-02T13:23:37Z, or 42m for 42 minutes ago)")};
inline constexpr std::array attach = {detach_keys, on("no-stdin", 0, "Do not connect standard input"),
                                      on("sig-proxy", 0, "Pass signals on to the container", "true")};
inline constexpr std::array exec = {on("detach", 'd', "Run in the background"), detach_keys,
                                    of("env", 'e', list, "list", "Set an environment variable; a bare name takes the value from here"),
                                    of("env-file", 0, list, "list", "Read environment variables from a file", "", Words::files),
                                    on("interactive", 'i', "Keep standard input open"), on("privileged", 0, "Give the command every right on the host"),
                                    on("tty", 't', "Give the command a terminal"),
                                    of("user", 'u', text, "string", "User to run as (name|uid[:group|gid])"),
                                    of("workdir", 'w', text, "string", "Working directory inside")};
inline constexpr std::array stats = {on("all", 'a', "Show stopped ones too"), format_list,
                                     on("no-stream", 0, "Print one reading and leave"), no_trunc};

inline constexpr std::array top = {on("no-stream", 0, "Print the processes once, on a terminal too")};

inline constexpr Flag only_platform = with_choices(of("platform", 0, text, "string", "Fail unless the image is for this platform, such as linux/amd64"), platforms);
inline constexpr std::array images = {on("all", 'a', "Show intermediate images too"), on("digests", 0, "Show digests"), images_filter, format_list,
                                      no_trunc, on("quiet", 'q', "Show ids only"),
                                      refused("tree", boolean, "every image here is for one platform, so there is nothing below its name")};
inline constexpr std::array inspect_image = {format_object, only_platform};
inline constexpr std::array rmi = {on("force", 'f', "Remove it although it has several names or a stopped container uses it"),
                                   on("no-prune", 0, "Keep parents without a name"), only_platform};
inline constexpr std::array history = {format_list, on("human", 'H', "Print sizes and times for people", "true"), no_trunc, only_platform,
                                       on("quiet", 'q', "Show ids only")};
inline constexpr std::array import = {of("change", 'c', list, "list", "Apply a Dockerfile line, such as 'CMD [\"sh\"]'"),
                                      of("message", 'm', text, "string", "Comment on the image"),
                                      with_choices(of("platform", 0, text, "string", "Platform of the image, such as linux/amd64"), platforms)};
inline constexpr std::array commit = {of("author", 'a', text, "string", "Who made it, such as \"Ada <ada@example.org>\""),
                                      of("change", 'c', list, "list", "Apply a Dockerfile line, such as 'ENV A=b'"),
                                      of("message", 'm', text, "string", "Comment on the image"),
                                      on("pause", 'p', "Freeze the container meanwhile", "true")};
inline constexpr std::array copy = {on("archive", 'a', "Give what is copied in to the container's user"),
                                    on("follow-link", 'L', "Copy what a link leads to instead of the link"),
                                    on("quiet", 'q', "Say nothing when done")};
inline constexpr std::array export_ = {of("output", 'o', text, "string", "Write to this file instead of standard output", "", Words::files)};
inline constexpr std::array build = {
    of("add-host", 0, list, "list", "Add a line to /etc/hosts of RUN steps (name:address)"),
    of("allow", 0, list, "list", "Grant a right to RUN steps: network.host or security.insecure"),
    of("annotation", 0, list, "list", "Annotate the image's manifest (key=value), or what is named ahead: index:, manifest[PLATFORM]:, manifest-descriptor:, index-descriptor:"),
    of("attest", 0, list, "list", "Attach to what is pushed: type=sbom or type=provenance[,mode=min|max]"),
    of("attestation-key", 0, list, "file", "Sign what is attached with this private key", "", Words::files),
    of("build-arg", 0, list, "list", "Set an ARG; a bare name takes the value from here"),
    of("build-context", 0, list, "list", "What FROM and --from mean by a name: NAME=FOLDER, NAME=docker-image://IMAGE or NAME=ADDRESS"),
    with_choices(of("builder", 0, text, "string", "The builder, of which an engine has one"), "default"),
    of("cache-from", 0, list, "list", "Take steps that were done elsewhere: an image's name, type=registry,ref=NAME or type=local,src=FOLDER"),
    of("cache-to", 0, list, "list", "Keep the steps for elsewhere: type=inline, type=registry,ref=NAME[,mode=max] or type=local,dest=FOLDER[,mode=max]"),
    of("cgroup-parent", 0, text, "string", "Cgroup that RUN steps run below"),
    of("call", 0, text, "string", "What to do: build, check, outline (what the target takes) or targets (which there are); with ,format=json as JSON", "build"),
    on("check", 0, "Check the Dockerfile and build nothing: --call check"),
    on("compress", 0, "Accepted: the builder is reached by a local socket, where compressing only costs time"),
    of("cpu-period", 0, integer, "int", "Length of a scheduling period of RUN steps, in microseconds"),
    of("cpu-quota", 0, integer, "int", "Processor time of RUN steps per period, in microseconds"),
    of("cpu-shares", 'c', integer, "int", "Share of the processors of RUN steps against other containers"),
    of("cpuset-cpus", 0, text, "string", "Processors that RUN steps may run on, such as 0-3 or 0,1"),
    of("cpuset-mems", 0, text, "string", "Memory nodes that RUN steps may use, such as 0-3 or 0,1"),
    with_bare_value(of("debug-shell", 0, text, "program", "Open a shell in what a failing step left; the program is the stage's shell, else /bin/sh, if not given"), "auto"),
    on("disable-content-trust", 0, "Do not verify the images' signatures", "true"),
    of("file", 'f', text, "string", "The Dockerfile (default: PATH/Dockerfile); - is standard input", "", Words::files),
    on("force-rm", 0, "Accepted: containers of steps are always removed"),
    of("iidfile", 0, text, "string", "Write the image's id to this file", "", Words::files),
    with_choices(of("isolation", 0, text, "string", "How RUN steps are isolated"), "default"),
    of("label", 0, list, "list", "Attach a label (key=value)"),
    on("load", 0, "Accepted: an image that is built is always here"),
    of("memory", 'm', bytes, "bytes", "Most memory a RUN step may use"),
    of("memory-swap", 0, swap_bytes, "bytes", "Most memory and swap together; -1 is without limit"),
    of("metadata-file", 0, text, "string", "Write what was built to this file, as JSON", "", Words::files),
    of("network", 0, text, "string", "Network of RUN steps: default, none, host or a network's name", "default"),
    on("no-cache", 0, "Do every step again"),
    of("no-cache-filter", 0, list, "list", "Do every step of these stages again"),
    of("output", 'o', text, "string", "Where the result goes: type=image, type=registry, type=local,dest=FOLDER or type=tar|docker|oci,dest=FILE"),
    of("passphrase-file", 0, text, "file", "Read the key's passphrase from this file", "", Words::files),
    of("platform", 0, list, "list", "Platform of the image, such as linux/amd64; several make an image of all of them"),
    of("progress", 0, text, "string", "How to show progress: auto, tty, plain, json or quiet", "auto"),
    of("provenance", 0, text, "string", "Attach what the image was made of: true, false, mode=min or mode=max"),
    on("push", 0, "Push the image under its names"),
    on("pull", 0, "Ask the registry for base images although they are here"),
    on("quiet", 'q', "Print the image's id only"),
    on("rm", 0, "Remove the containers of steps", "true"),
    of("sbom", 0, text, "string", "Attach what is installed in the image: true or false"),
    of("secret", 0, list, "list", "Give a secret to RUN steps that mount it (id=NAME,src=FILE or id=NAME,env=VARIABLE)"),
    of("shm-size", 0, bytes, "bytes", "Size of /dev/shm in RUN steps"),
    refused("security-opt", list, "RUN steps run under the engine's own profiles; --allow security.insecure grants all"),
    refused("squash", boolean, "an image keeps its layers; 'caisson export' and 'caisson import' make one of them"),
    of("ssh", 0, list, "list", "Lend an ssh agent to RUN steps that mount it and to repositories by ssh (default or ID, ID=SOCKET, ID=KEY[,KEY])", "", Words::files),
    of("tag", 't', list, "list", "Name for the image"),
    of("target", 0, text, "string", "Build up to this stage"),
    of("ulimit", 0, list, "ulimit", "Limit of RUN steps (name=soft[:hard])"),
};
inline constexpr std::array bake = {
    of("file", 'f', list, "list", "Build file; those of compose, docker-bake.json and docker-bake.hcl if not given", "", Words::files),
    of("call", 0, text, "string", "What to do with each target: build, check, outline or targets"),
    on("check", 0, "Check the Dockerfiles and build nothing: --call check"),
    with_bare_value(of("debug-shell", 0, text, "program", "Open a shell in what the first failing target's step left; the program is the stage's shell, else /bin/sh, if not given"), "auto"),
    of("list", 0, text, "string", "List targets or variables, and build nothing: targets, variables; type=TYPE,format=json"),
    on("load", 0, "Accepted: an image that is built is always here"),
    of("metadata-file", 0, text, "string", "Write what is known of the images, by target, to this file", "", Words::files),
    on("no-cache", 0, "Do every step again"),
    on("print", 0, "Print what would be built as JSON, and build nothing"),
    of("progress", 0, text, "string", "How to show progress: auto, plain or quiet", "auto"),
    on("pull", 0, "Ask the registry for base images although they are here"),
    on("push", 0, "Push the images under their names"),
    of("set", 0, list, "list", "Override a value: TARGET.ATTRIBUTE=VALUE; * in TARGET stands for anything"),
};
inline constexpr std::array build_history = {format_list, no_trunc, on("quiet", 'q', "Show ids only")};
inline constexpr std::array build_history_rm = {on("all", 0, "Forget every build that has ended")};
inline constexpr std::array cache_mount_ls = {format_list, no_trunc, on("quiet", 'q', "Show ids only")};
inline constexpr std::array build_prune = {on("all", 'a', "Remove every entry"), prune_filter, prune_force,
                                           of("keep-storage", 0, bytes, "bytes", "Keep what was used last, up to this size"),
                                           of("reserved-space", 0, bytes, "bytes", "The same, in newer clients' words")};
inline constexpr std::array load = {of("input", 'i', text, "string", "Read this file instead of standard input", "", Words::files),
                                    refused("platform", text, "archives are loaded for this machine's platform"),
                                    on("quiet", 'q', "Do not show progress")};
inline constexpr std::array save = {of("output", 'o', text, "string", "Write to this file instead of standard output", "", Words::files), only_platform};
inline constexpr std::array bootstrap = {of("include", 0, list, "list", "Install this package too; several are separated by commas"),
                                         of("mirror", 0, text, "string", "Address of the Debian archive"),
                                         on("quiet", 'q', "Print the image's id only"),
                                         of("snapshot", 0, text, "string", "Take the archive as it was then, such as 20260101T000000Z"),
                                         of("tag", 't', text, "string", "Name for the image")};
inline constexpr Flag untrusted = on("disable-content-trust", 0, "Do not verify the image's signature", "true");
inline constexpr std::array pull = {on("all-tags", 'a', "Pull every tag of the repository"), untrusted,
                                    on("lazy", 0, "Have the image at once, and its layers while they are used"),
                                    with_choices(of("platform", 0, text, "string", "Platform of the image, such as linux/amd64"), platforms),
                                    on("quiet", 'q', "Print the image's name only")};
inline constexpr std::string_view layer_forms = "gzip zstd zstd:chunked uncompressed";
inline constexpr Flag compression_format = with_choices(of("compression-format", 0, text, "string", "Send all layers as gzip, zstd, zstd:chunked (can be pulled lazily) or uncompressed"), layer_forms);
inline constexpr Flag compression_level = of("compression-level", 0, integer, "int", "Compress layers at this level: gzip has 1 to 12, zstd 1 to 22");
inline constexpr std::array push = {on("all-tags", 'a', "Push every tag of the repository"), compression_format, compression_level, untrusted, only_platform,
                                    on("quiet", 'q', "Do not show progress")};
/// Of commands that speak to registries from this process instead of through the daemon.
inline constexpr std::array own_registries = {
    of("insecure-registry", 0, list, "host", "A registry without a known certificate or without TLS; loopback always may be"),
    of("registry-hosts", 0, text, "folder", "Certificates and mirrors per registry, in containerd's layout", "/etc/caisson/certs.d", Words::files),
};
inline constexpr std::array cache_mount_export = own_registries;
inline constexpr std::array cache_mount_import = own_registries + std::array{
    of("id", 0, text, "string", "The mount's id here; the one it was exported with if not given"),
};
inline constexpr std::array image_copy = own_registries + std::array{
    on("all", 'a', "Copy indexes whole, with every platform in them"),
    of("jobs", 'j', integer, "int", "Blobs that travel at the same time", "3"),
    with_choices(of("platform", 0, text, "string", "Which image of an index to copy, such as linux/arm64; this machine's if not given"), platforms),
    on("quiet", 'q', "Do not show progress"),
    on("referrers", 0, "Also copy what is attached to the image: signatures, SBOMs, attestations, and what is attached to those"),
    on("signatures", 0, "Also copy what cosign keeps under tags of the image's digest"),
};
inline constexpr std::array image_sync = image_copy + std::array{
    on("dry-run", 'n', "Say what would be copied, and copy nothing"),
    of("file", 'f', list, "file", "List of what to copy: lines, .yaml or .toml", "", Words::files),
};
inline constexpr std::array image_examined = own_registries + std::array{
    with_choices(of("platform", 0, text, "string", "Which image of an index, such as linux/arm64; this machine's if not given"), platforms),
};
inline constexpr std::array image_attached = image_examined + std::array{format_list, no_trunc};
inline constexpr std::array image_sbom = image_examined + std::array{
    on("attach", 0, "Attach it to the image in its registry or layout"),
    on("attached", 0, "Show the one that is attached to the image, instead of making one"),
    with_choices(of("format", 0, text, "string", "spdx-json", "spdx-json"), "spdx-json"),
    of("key", 'k', list, "file", "--attach: also attach it as an attestation, signed with this private key; --attached: only one signed by this public key (PEM)", "", Words::files),
    of("output", 'o', text, "file", "Write to this file instead of standard output", "", Words::files),
    of("passphrase-file", 0, text, "file", "--attach: read the key's passphrase from this file", "", Words::files),
};
inline constexpr std::array image_scan = image_examined + std::array{
    of("data", 0, list, "file", "What is known to be wrong: OSV (zip or JSON), Debian's tracker, debsecan's file; or docker://… and oci:… for an artifact", "", Words::files),
    of("exit-code", 0, integer, "int", "End with this code when something is found", "0"),
    with_choices(of("format", 0, text, "string", "table or json", "table"), "table json"),
    of("release", 0, text, "string", "The distribution's release, where the image does not say it"),
    with_choices(of("severity", 0, text, "string", "Least severity that counts", "unknown"), "unknown negligible low medium high critical"),
};
inline constexpr std::array generate_key = {of("output-prefix", 0, text, "string", "Write PREFIX.key and PREFIX.pub", "caisson", Words::files),
                                            of("passphrase-file", 0, text, "file", "Read the passphrase from this file; empty: the key is not encrypted", "", Words::files),
                                            with_choices(of("type", 't', text, "string", "Kind of key: ecdsa-p256, ecdsa-p384, ed25519 or rsa", "ecdsa-p256"), "ecdsa-p256 ecdsa-p384 ed25519 rsa")};
inline constexpr std::array sign = {of("certificate-chain", 0, text, "file", "notation: the signer's certificate, then those above it (PEM)", "", Words::files),
                                    of("expiry", 0, duration, "duration", "notation: how long the signature is valid, such as 8760h"),
                                    with_choices(of("format", 0, text, "string", "How to sign: cosign (a tag), bundle or notation (attached to the image)", "cosign"), "bundle cosign notation"),
                                    of("identity", 0, text, "string", "Sign under this name instead of the image's own"),
                                    of("key", 'k', text, "file", "Private key (PEM)", "", Words::files),
                                    of("passphrase-file", 0, text, "file", "Read the key's passphrase from this file", "", Words::files)};
inline constexpr std::array verify = image_examined + std::array{
                                      of("attestation", 0, text, "string", "Ask for an attestation of this kind by one of the keys: spdx, cyclonedx, slsaprovenance1, vuln, openvex, or a predicate's URI"),
                                      of("ca", 0, list, "file", "Ask for a notation signature under one of these root certificates (PEM)", "", Words::files),
                                      with_choices(of("format", 0, text, "string", "table or json", "table"), list_formats),
                                      of("key", 'k', list, "file", "Ask for a signature by one of these public keys (PEM)", "", Words::files),
                                      of("signer", 0, list, "string", "With --ca: whose signature, such as \"x509.subject: C=US, ST=WA, O=example\"")};
inline constexpr Flag policy_file = of("policy", 0, text, "file", "The policy's file, instead of the one that the daemon would read", "", Words::files);
inline constexpr std::array explain = {of("format", 0, text, "string", "Go template, or json")};
inline constexpr std::array learn = {of("for", 0, duration, "duration", "Watch so long; without it until the container ends"),
                                     of("format", 0, text, "string", "Go template, or json"),
                                     of("output", 'o', text, "file", "Write the system calls it used to a seccomp profile"),
                                     on("stop", 0, "End a watch that runs already, and show what it saw")};
inline constexpr std::array role_show = {of("format", 0, text, "string", "Go template, or json")};
inline constexpr std::array verbs = {of("format", 0, text, "string", "Go template, json or table"), on("quiet", 'q', "Names only")};
inline constexpr std::array trust_show = {on("json", 'j', "Show it as JSON"), policy_file, on("raw", 0, "Show the file as it is")};
inline constexpr std::array trust_set = {policy_file, of("pubkeysfile", 'f', list, "file", "A key, by its absolute path; signed by any of them will do", "", Words::files),
                                         with_choices(of("type", 't', text, "string", "accept, reject, signedBy or sigstoreSigned", "signedBy"), "accept reject signedBy sigstoreSigned")};
inline constexpr std::array login = {of("password", 'p', text, "string", "Password; --password-stdin does not leave it in the shell's history"),
                                     on("password-stdin", 0, "Read the password from standard input"),
                                     of("username", 'u', text, "string", "User name")};
inline constexpr std::array search = {filter, format_list, of("limit", 0, integer, "int", "Most results to show"), no_trunc};
inline constexpr std::array image_prune = {on("all", 'a', "Remove every image that no container uses, named ones too"), prune_filter, prune_force};

inline constexpr std::array volume_create = {with_choices(of("driver", 'd', text, "string", "Driver to use", "local"), "local"),
                                             of("label", 0, list, "list", "Attach a label (key=value)"),
                                             of("name", 0, text, "string", "The volume's name"),
                                             of("opt", 'o', list, "map", "Option of the driver (key=value)"),
                                             refused("availability", text, for_swarm),
                                             refused("group", text, for_swarm),
                                             refused("limit-bytes", bytes, for_swarm),
                                             refused("required-bytes", bytes, for_swarm),
                                             refused("scope", text, for_swarm),
                                             refused("secret", list, for_swarm),
                                             refused("sharing", text, for_swarm),
                                             refused("topology-preferred", list, for_swarm),
                                             refused("topology-required", list, for_swarm),
                                             refused("type", text, for_swarm)};
inline constexpr std::array volume_ls = {volume_filter, format_list, on("quiet", 'q', "Show names only"), refused("cluster", boolean, for_swarm)};
inline constexpr std::array volume_rm = {on("force", 'f', "Do not fail when it does not exist")};
inline constexpr std::array volume_prune = {on("all", 'a', "Remove named volumes too"), volume_prune_filter, prune_force};
inline constexpr std::array network_ls = {network_filter, format_list, no_trunc, on("quiet", 'q', "Show ids only")};
inline constexpr std::array plugin_ls = {with_choices(filter, "capability= enabled=false enabled=true"), format_list, no_trunc, on("quiet", 'q', "Show ids only")};
inline constexpr std::array network_create = {
    on("attachable", 0, "Let containers be attached by hand (clusters)"),
    of("aux-address", 0, list, "map", "Address that no container gets (name=address)"),
    of("config-from", 0, text, "string", "Network to copy the configuration from (clusters)"),
    on("config-only", 0, "Make a configuration without a network (clusters)"),
    of("driver", 'd', text, "string", "Driver to use: bridge or macvlan", "bridge"),
    of("gateway", 0, list, "strings", "Gateway of a subnet"),
    on("ingress", 0, "Make the network of published ports (clusters)"),
    on("internal", 0, "Leave no way to the outside"),
    of("ip-range", 0, list, "strings", "Give addresses out of this part of a subnet"),
    of("ipam-driver", 0, text, "string", "Driver of addresses", "default"),
    of("ipam-opt", 0, list, "map", "Option of the driver of addresses (key=value)"),
    on("ipv4", 0, "Give IPv4 addresses", "true"),
    on("ipv6", 0, "Give IPv6 addresses too"),
    of("label", 0, list, "list", "Attach a label (key=value)"),
    of("opt", 'o', list, "map", "Option of the driver (key=value)"),
    of("scope", 0, text, "string", "Scope of the network"),
    of("subnet", 0, list, "strings", "Subnet as address/length"),
};
inline constexpr std::array network_connect = {
    of("alias", 0, list, "strings", "Further name within the network"),
    of("driver-opt", 0, list, "strings", "Option of the driver (key=value)"),
    of("gw-priority", 0, integer, "int", "The network with the highest has the default route"),
    of("ip", 0, text, "string", "IPv4 address to use"),
    of("ip6", 0, text, "string", "IPv6 address to use"),
    of("link", 0, list, "list", "Name of another container, for this one alone (container:alias)"),
    of("link-local-ip", 0, list, "strings", "Link-local address to add"),
};
inline constexpr std::array network_disconnect = {on("force", 'f', "Forget a connection that is broken")};
inline constexpr std::array network_rm = {on("force", 'f', "Do not fail when it does not exist")};
inline constexpr std::array network_inspect = {format_object, on("verbose", 'v', "Show what is useful for diagnosis")};

inline constexpr Flag context_description = of("description", 0, text, "string", "What the context is for");
inline constexpr Flag context_endpoint = with_choices(of("docker", 0, list, "key=value", "The daemon: host=ADDRESS, ca=FILE, cert=FILE, key=FILE, skip-tls-verify=true, or from=CONTEXT"),
                                                      "host= ca= cert= key= skip-tls-verify=true from=");
inline constexpr std::array context_create = {context_description, context_endpoint, of("from", 0, text, "string", "Context to copy", "", Words::contexts)};
inline constexpr std::array context_update = {context_description, context_endpoint};
inline constexpr std::array context_ls = {format_list, on("quiet", 'q', "Show names only")};
inline constexpr std::array context_rm = {on("force", 'f', "Remove it although it is in use; do not fail when it does not exist")};

inline constexpr std::array events = {events_filter, format_list, of("since", 0, text, "string", "From this time on"),
                                      of("until", 0, text, "string", "Up to this time")};
inline constexpr std::array doctor = {on("fix", 0, "Mend what can be mended safely; asks before each change"),
                                      with_choices(of("format", 0, text, "string", "How to print: 'table' or 'json'"), list_formats),
                                      on("verbose", 'v', "Show what is well, too"), on("yes", 'y', "Do not ask")};
inline constexpr std::array import_docker = {of("docker-root", 0, text, "string", "Docker's folder", "/var/lib/docker", Words::files),
                                             with_choices(of("only", 0, list, "list", "Take only these over: images, volumes or containers"), "images volumes containers"),
                                             on("yes", 'y', "Do it, instead of showing what would be done"),
                                             also("data-root", 0, "docker-root", text)};
inline constexpr std::array prune = {prune_filter, prune_force};
inline constexpr std::array system_df = {format_list, on("verbose", 'v', "Show every object")};
inline constexpr std::array system_prune = {on("all", 'a', "Remove every image that no container uses, named ones too"), prune_filter,
                                            prune_force, on("volumes", 0, "Remove anonymous volumes too")};

/// What every command on a registry's folder takes.
inline constexpr std::array registry = {
    of("config", 0, text, "file", "Settings", "/etc/caisson/registry.toml", Words::files),
    of("root", 0, text, "folder", "Where the registry keeps everything", "/var/lib/caisson-registry", Words::files),
};
inline constexpr std::array registry_ls = registry + std::array{with_choices(of("format", 0, text, "string", "text or json", "text"), "text json")};
inline constexpr std::array registry_gc = registry_ls + std::array{
    of("grace", 0, duration, "duration", "Leave alone what was pushed or asked for within it", "1h"),
    on("untagged", 0, "Also remove manifests that no tag leads to"),
};
inline constexpr std::array registry_serve = registry + std::array{
    on("access-log", 0, "Log every request"),
    on("allow-plain-http", 0, "Serve beyond loopback without TLS"),
    of("htpasswd", 0, text, "file", "Users with bcrypt hashes, as htpasswd -B makes them", "", Words::files),
    of("listen", 0, list, "list", "Address and port", "127.0.0.1:5000"),
    of("metrics", 0, text, "address", "Also serve /metrics there, for Prometheus"),
    on("read-only", 0, "Refuse every change"),
    of("tls-cert", 0, text, "file", "Certificate with its chain, PEM", "", Words::files),
    of("tls-key", 0, text, "file", "The certificate's key, PEM", "", Words::files),
    of("user", 0, text, "user", "Whom to run as when started by root: a name or UID[:GID]"),
};

}  // namespace caisson::cli::flags
