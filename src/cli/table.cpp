// The command table itself.
#include <array>

#include "base/strings.hpp"
#include "cli/command.hpp"
#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/travel_commands.hpp"

namespace caisson::cli {

namespace {

constexpr std::span<const Flag> none{};
constexpr Arity any{0, -1};
constexpr Arity some{1, -1};
constexpr Arity two_or_more{2, -1};

constexpr Command group(std::string_view path, std::string_view summary) {
  return {.path = path, .aliases = "", .usage = "COMMAND", .summary = summary, .arity = any, .flags = none, .is_group = true};
}

// A command of docker's that we refuse: its words are not looked at, and no list shows it.
constexpr Command refused(std::string_view path, std::string_view aliases, std::string_view why) {
  return {.path = path, .aliases = aliases, .usage = "", .summary = "", .arity = any, .flags = none, .hidden = true, .raw_words = true, .refusal = why};
}

// Exit code 125 for errors of our own: scripts tell "the container's command failed" from "it could not be started" by it.
constexpr int launch_failed = 125;

constexpr std::array table = {
    Command{.path = "run", .aliases = "container run", .usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]", .summary = "Make a container from an image and start it",
            .arity = some, .interspersed = false, .flags = flags::run, .words = Words::images, .run = run_container, .error_code = launch_failed, .is_common = true},
    Command{.path = "exec", .aliases = "container exec", .usage = "[OPTIONS] CONTAINER COMMAND [ARG...]", .summary = "Run a command in a running container",
            .arity = two_or_more, .interspersed = false, .flags = flags::exec, .words = Words::running, .run = exec_in_container, .is_common = true},
    Command{.path = "ps", .aliases = "container ls, container list, container ps", .usage = "[OPTIONS]", .summary = "List containers",
            .arity = {0, 0}, .flags = flags::ps, .run = list_containers, .is_common = true},
    Command{.path = "build", .aliases = "image build, builder build", .usage = "[OPTIONS] PATH | -", .summary = "Build an image from a Dockerfile",
            .arity = {1, 1}, .flags = flags::build, .words = Words::files, .run = build_image, .is_common = true},
    Command{.path = "images", .aliases = "image ls, image list", .usage = "[OPTIONS] [REPOSITORY[:TAG]]", .summary = "List images",
            .arity = {0, 1}, .flags = flags::images, .words = Words::images, .run = list_images, .is_common = true},
    Command{.path = "logs", .aliases = "container logs", .usage = "[OPTIONS] CONTAINER", .summary = "Show what a container wrote",
            .arity = {1, 1}, .flags = flags::logs, .words = Words::containers, .run = show_logs, .is_common = true},
    Command{.path = "stop", .aliases = "container stop", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Ask containers to end, then kill them",
            .arity = some, .flags = flags::stop, .words = Words::running, .run = stop_containers, .is_common = true},
    Command{.path = "rm", .aliases = "container rm, container remove", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Remove containers",
            .arity = some, .flags = flags::rm, .words = Words::containers, .run = remove_containers, .is_common = true},
    Command{.path = "version", .aliases = "", .usage = "[OPTIONS]", .summary = "Show the versions of client and daemon",
            .arity = {0, 0}, .flags = flags::inspect_plain, .run = show_version, .is_common = true},
    Command{.path = "info", .aliases = "system info", .usage = "[OPTIONS]", .summary = "Show what the engine and the host are like",
            .arity = {0, 0}, .flags = flags::inspect_plain, .run = show_info, .is_common = true},

    group("builder", "The build cache"),
    Command{.path = "builder cache", .aliases = "build cache", .usage = "COMMAND", .summary = "Cache mounts of RUN steps", .arity = any, .flags = none, .is_group = true},
    Command{.path = "builder history", .aliases = "build history", .usage = "COMMAND", .summary = "Builds of the past", .arity = any, .flags = none, .is_group = true},
    group("container", "Containers"),
    group("context", "Contexts: names of daemons, and the keys that open them"),
    group("image", "Images"),
    group("image trust", "Which signatures images need on this host"),
    group("network", "Networks"),
    group("plugin", "Plugins"),
    group("registry", "A registry of one's own"),
    group("roles", "Who may do what at the engine's sockets"),
    group("security", "What holds containers back, what they ran into, and what they need"),
    group("system", "The engine"),
    group("volume", "Volumes"),

    Command{.path = "attach", .aliases = "container attach", .usage = "[OPTIONS] CONTAINER", .summary = "Connect this terminal to a running container",
            .arity = {1, 1}, .flags = flags::attach, .words = Words::running, .run = attach_container},
    Command{.path = "commit", .aliases = "container commit", .usage = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", .summary = "Make an image of a container's changes",
            .arity = {1, 2}, .flags = flags::commit, .words = Words::containers, .run = commit_container},
    Command{.path = "completion", .aliases = "", .usage = "bash|zsh|fish", .summary = "Print the script that makes a shell complete our command line",
            .arity = {1, 1}, .flags = none, .words = Words::shells, .run = print_completion_script,
            .details = "Try it at once: source <(caisson completion bash). Packages install the scripts where shells look for them."},
    Command{.path = "cp", .aliases = "container cp", .usage = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       caisson cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
            .summary = "Copy files between a container and this machine", .arity = {2, 2}, .flags = flags::copy, .words = Words::files, .run = copy_files,
            .details = "A path that ends in /. means what is in the folder. With - an archive is written to standard output, or read from standard input."},
    Command{.path = "create", .aliases = "container create", .usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]", .summary = "Make a container without starting it",
            .arity = some, .interspersed = false, .flags = flags::create, .words = Words::images, .run = create_container},
    Command{.path = "daemon", .aliases = "", .usage = "", .summary = "Run the daemon in the foreground", .arity = {0, 0}, .flags = none, .run = run_daemon,
            .details = "Other commands start the daemon by themselves when it does not run."},
    Command{.path = "diff", .aliases = "container diff", .usage = "CONTAINER", .summary = "Show what a container changed in its image",
            .arity = {1, 1}, .flags = none, .words = Words::containers, .run = show_changes},
    Command{.path = "doctor", .aliases = "system doctor", .usage = "[OPTIONS]", .summary = "Check whether this host can run containers, and say how to mend what is wrong",
            .arity = {0, 0}, .flags = flags::doctor, .run = run_doctor,
            .details = "Needs no daemon. Ends with 1 when something is broken; warnings alone end with 0."},
    Command{.path = "events", .aliases = "system events", .usage = "[OPTIONS]", .summary = "Show what happens, as it happens",
            .arity = {0, 0}, .flags = flags::events, .run = show_events},
    Command{.path = "export", .aliases = "container export", .usage = "[OPTIONS] CONTAINER", .summary = "Write a container's file system to an archive",
            .arity = {1, 1}, .flags = flags::export_, .words = Words::containers, .run = export_container},
    Command{.path = "help", .aliases = "", .usage = "[COMMAND]", .summary = "Explain a command", .arity = {0, 3}, .flags = none, .words = Words::commands, .run = show_help},
    Command{.path = "history", .aliases = "image history", .usage = "[OPTIONS] IMAGE", .summary = "Show how an image was made",
            .arity = {1, 1}, .flags = flags::history, .words = Words::images, .run = show_history},
    Command{.path = "import", .aliases = "image import", .usage = "[OPTIONS] FILE|- [REPOSITORY[:TAG]]", .summary = "Make an image from a tar of a root file system",
            .arity = {1, 2}, .flags = flags::import, .words = Words::files, .run = import_image},
    Command{.path = "import-docker", .aliases = "", .usage = "[OPTIONS]", .summary = "Take images, networks, volumes and containers over from a stopped Docker's folder",
            .arity = {0, 0}, .flags = flags::import_docker, .run = import_docker,
            .details = "Shows the plan and changes nothing unless --yes is given. Docker's folder is only read."},
    Command{.path = "inspect", .aliases = "", .usage = "[OPTIONS] NAME|ID [NAME|ID...]", .summary = "Show everything about containers, images, volumes or networks",
            .arity = some, .flags = flags::inspect, .words = Words::containers, .run = inspect_any},
    Command{.path = "kill", .aliases = "container kill", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Send a signal to containers",
            .arity = some, .flags = flags::kill, .words = Words::running, .run = kill_containers},
    Command{.path = "load", .aliases = "image load", .usage = "[OPTIONS]", .summary = "Load images from an archive",
            .arity = {0, 0}, .flags = flags::load, .run = load_images},
    Command{.path = "login", .aliases = "", .usage = "[OPTIONS] [SERVER]", .summary = "Check and keep the credentials for a registry",
            .arity = {0, 1}, .flags = flags::login, .run = login,
            .details = "Without SERVER it is Docker Hub. Credentials are kept where docker keeps them: ~/.docker/config.json, or a helper named there."},
    Command{.path = "logout", .aliases = "", .usage = "[SERVER]", .summary = "Forget the credentials for a registry",
            .arity = {0, 1}, .flags = none, .run = logout},
    Command{.path = "pause", .aliases = "container pause", .usage = "CONTAINER [CONTAINER...]", .summary = "Freeze all processes of containers",
            .arity = some, .flags = none, .words = Words::running, .run = pause_containers},
    Command{.path = "port", .aliases = "container port", .usage = "CONTAINER [PRIVATE_PORT[/PROTO]]", .summary = "Show published ports",
            .arity = {1, 2}, .flags = none, .words = Words::running, .run = show_ports},
    Command{.path = "pull", .aliases = "image pull", .usage = "[OPTIONS] NAME[:TAG|@DIGEST]", .summary = "Bring an image from its registry",
            .arity = {1, 1}, .flags = flags::pull, .words = Words::images, .run = pull_image},
    Command{.path = "push", .aliases = "image push", .usage = "[OPTIONS] NAME[:TAG]", .summary = "Send an image to its registry",
            .arity = {1, 1}, .flags = flags::push, .words = Words::images, .run = push_image},
    Command{.path = "rename", .aliases = "container rename", .usage = "CONTAINER NEW_NAME", .summary = "Give a container another name",
            .arity = {2, 2}, .flags = none, .words = Words::containers, .run = rename_container},
    Command{.path = "restart", .aliases = "container restart", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Stop containers and start them again",
            .arity = some, .flags = flags::stop, .words = Words::containers, .run = restart_containers},
    Command{.path = "rmi", .aliases = "image rm, image remove", .usage = "[OPTIONS] IMAGE [IMAGE...]", .summary = "Remove images",
            .arity = some, .flags = flags::rmi, .words = Words::images, .run = remove_images},
    Command{.path = "save", .aliases = "image save", .usage = "[OPTIONS] IMAGE [IMAGE...]", .summary = "Write images to an archive",
            .arity = some, .flags = flags::save, .words = Words::images, .run = save_images},
    Command{.path = "search", .aliases = "", .usage = "[OPTIONS] TERM", .summary = "Look for images on Docker Hub",
            .arity = {1, 1}, .flags = flags::search, .run = search_images},
    Command{.path = "start", .aliases = "container start", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Start stopped containers",
            .arity = some, .flags = flags::start, .words = Words::stopped, .run = start_containers},
    Command{.path = "stats", .aliases = "container stats", .usage = "[OPTIONS] [CONTAINER...]", .summary = "Show what containers use, live",
            .arity = any, .flags = flags::stats, .words = Words::running, .run = show_stats},
    Command{.path = "tag", .aliases = "image tag", .usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", .summary = "Give an image another name",
            .arity = {2, 2}, .flags = none, .words = Words::images, .run = tag_image},
    Command{.path = "top", .aliases = "container top", .usage = "[OPTIONS] CONTAINER [ps OPTIONS]", .summary = "Show the processes of a container",
            .arity = some, .interspersed = false, .flags = flags::top, .words = Words::running, .run = show_top,
            .details = "Live on a terminal, until q is typed or the container ends; once elsewhere."},
    Command{.path = "unpause", .aliases = "container unpause", .usage = "CONTAINER [CONTAINER...]", .summary = "Let frozen containers go on",
            .arity = some, .flags = none, .words = Words::paused, .run = unpause_containers},
    Command{.path = "update", .aliases = "container update", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Change limits of containers",
            .arity = some, .flags = flags::update, .words = Words::containers, .run = update_containers},
    Command{.path = "wait", .aliases = "container wait", .usage = "CONTAINER [CONTAINER...]", .summary = "Wait until containers end; print their exit codes",
            .arity = some, .flags = none, .words = Words::running, .run = wait_containers},

    Command{.path = "image generate-key", .aliases = "", .usage = "[OPTIONS]", .summary = "Make a pair of keys to sign images with",
            .arity = {0, 0}, .flags = flags::generate_key, .run = generate_key,
            .details = "The private key is PKCS#8 in PEM, encrypted with a passphrase that is asked for. cosign takes it over with \"cosign import-key-pair\"\n"
                       "and verifies with the public key as it is."},
    Command{.path = "image sign", .aliases = "", .usage = "[OPTIONS] --key FILE NAME[:TAG|@DIGEST]", .summary = "Sign an image in its registry",
            .arity = {1, 1}, .flags = flags::sign, .words = Words::images, .run = sign_image,
            .details = "The name is resolved to a digest, and the digest is signed here; the key does not leave this machine. The daemon adds the signature\n"
                       "in the registry. A passphrase is asked for, or taken from --passphrase-file."},
    Command{.path = "image verify", .aliases = "", .usage = "[OPTIONS] NAME[:TAG|@DIGEST]", .summary = "Check an image's signatures in its registry",
            .arity = {1, 1}, .flags = flags::verify, .words = Words::images, .run = verify_image,
            .details = "With --key or --ca it asks for a signature by them, under any name; without, it asks what a pull would ask: the daemon's policy.\n"
                       "--attestation asks for a signed statement about the image instead, by --key, from this process: as image copy it takes host/path:tag and oci:FOLDER.\n"
                       "Nothing is pulled. Ends with 1 when the image does not pass."},
    Command{.path = "image trust show", .aliases = "", .usage = "[OPTIONS] [REGISTRY]", .summary = "Show the signature policy of this host",
            .arity = {0, 1}, .flags = flags::trust_show, .run = show_trust},
    Command{.path = "image trust set", .aliases = "", .usage = "[OPTIONS] REGISTRY|default", .summary = "Change the signature policy of this host",
            .arity = {1, 1}, .flags = flags::trust_set, .run = set_trust,
            .details = "REGISTRY is a host, namespace, repository or whole name: docker.io, quay.io/team, docker.io/library/alpine.\n"
                       "Example: caisson image trust set -t sigstoreSigned -f /etc/caisson/keys/team.pub quay.io/team"},
    Command{.path = "roles check", .aliases = "", .usage = "[FILE]", .summary = "Read a file of roles as the daemon would, and say what is wrong with it",
            .arity = {0, 1}, .flags = none, .words = Words::files, .run = check_roles,
            .details = "FILE: /etc/caisson/roles.toml when none is given. The daemon takes a new file into force on SIGHUP (systemctl reload caissond)."},
    Command{.path = "roles show", .aliases = "", .usage = "[OPTIONS]", .summary = "Show who you are to the daemon, and what you may do",
            .arity = {0, 0}, .flags = flags::role_show, .run = show_role},
    Command{.path = "roles token", .aliases = "", .usage = "NAME", .summary = "Make a token, and the lines by which a file of roles knows it",
            .arity = {1, 1}, .flags = none, .run = make_role_token,
            .details = "The token is shown once and kept nowhere: clients send it as \"Authorization: Bearer TOKEN\", docker's by HttpHeaders in its config.json.\n"
                       "The file holds its SHA-256 only. Send tokens through TLS or the unix socket."},
    Command{.path = "roles verbs", .aliases = "", .usage = "[OPTIONS]", .summary = "List the verbs that a file of roles can name",
            .arity = {0, 0}, .flags = flags::verbs, .run = list_verbs},
    Command{.path = "security explain", .aliases = "", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Show the box a container is in, and what the kernel refused it",
            .arity = some, .flags = flags::explain, .words = Words::containers, .run = explain_container,
            .details = "Of a running container as the kernel has it, of another as its next start would make it.\n"
                       "System calls that the filter answers with an error leave a note with --security-opt log-refusals only; what kills a program always does."},
    Command{.path = "security learn", .aliases = "", .usage = "[OPTIONS] CONTAINER", .summary = "Watch what a container does, and propose a tighter box",
            .arity = {1, 1}, .flags = flags::learn, .words = Words::containers, .run = learn_container,
            .details = "A container that does not run is started, and seen from its program's first instruction on. The watch ends with the container,\n"
                       "after --for, or when interrupted; the container runs on then. Exercise all that it shall be able to do meanwhile."},
    Command{.path = "container inspect", .aliases = "", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Show everything about containers",
            .arity = some, .flags = flags::inspect_container, .words = Words::containers, .run = inspect_containers},
    Command{.path = "container prune", .aliases = "", .usage = "[OPTIONS]", .summary = "Remove all stopped containers",
            .arity = {0, 0}, .flags = flags::prune, .run = prune_containers},
    Command{.path = "builder bake", .aliases = "bake", .usage = "[OPTIONS] [TARGET...]", .summary = "Build the targets of a build file (HCL, JSON or compose)",
            .arity = any, .flags = flags::bake, .words = Words::files, .run = bake_targets},
    Command{.path = "builder cache export", .aliases = "build cache export", .usage = "[OPTIONS] MOUNT TARGET", .summary = "Write a cache mount to a registry, a folder or an archive",
            .arity = {2, 2}, .flags = flags::cache_mount_export, .run = export_cache_mount,
            .details = "MOUNT is the id of RUN --mount=type=cache (its target when it has none), or the beginning of its cache id.\n"
                       "Targets: host/path:tag (a registry), oci:FOLDER[:TAG], oci-archive:FILE. It travels as an OCI image that says which mount it is; the same files give the same digest, which is printed."},
    Command{.path = "builder cache import", .aliases = "build cache import", .usage = "[OPTIONS] SOURCE", .summary = "Make a cache mount of what was exported",
            .arity = {1, 1}, .flags = flags::cache_mount_import, .run = import_cache_mount,
            .details = "Sources: host/path:tag (a registry, asked by the daemon), oci:FOLDER[:TAG], oci-archive:FILE. It takes the place of the mount of the same id, as a whole, unless a build uses that one."},
    Command{.path = "builder cache inspect", .aliases = "build cache inspect", .usage = "[OPTIONS] MOUNT [MOUNT...]", .summary = "Show everything about cache mounts",
            .arity = some, .flags = flags::inspect_plain, .run = inspect_cache_mounts},
    Command{.path = "builder cache ls", .aliases = "build cache ls, builder cache list, build cache list", .usage = "[OPTIONS]", .summary = "List the cache mounts of RUN steps",
            .arity = {0, 0}, .flags = flags::cache_mount_ls, .run = list_cache_mounts,
            .details = "`caisson system df -v` lists them among the steps of the build cache. Sizes are measured behind a step's back."},
    Command{.path = "builder cache rm", .aliases = "build cache rm, builder cache remove, build cache remove", .usage = "MOUNT [MOUNT...]", .summary = "Remove cache mounts that no build uses",
            .arity = some, .flags = none, .run = remove_cache_mounts},
    Command{.path = "builder history inspect", .aliases = "build history inspect", .usage = "[OPTIONS] [BUILD]", .summary = "Show what was built, and how it ended",
            .arity = {0, 1}, .flags = flags::inspect_plain, .run = inspect_build},
    Command{.path = "builder history logs", .aliases = "build history logs", .usage = "[BUILD]", .summary = "Show what a build wrote",
            .arity = {0, 1}, .flags = none, .run = show_build_log, .details = "BUILD is an id, the beginning of one, or ^N for the Nth behind the newest; without it the newest build is meant."},
    Command{.path = "builder history ls", .aliases = "build history ls, builder history list, build history list", .usage = "[OPTIONS]", .summary = "List the last builds",
            .arity = {0, 0}, .flags = flags::build_history, .run = list_builds},
    Command{.path = "builder history rm", .aliases = "build history rm, builder history remove, build history remove", .usage = "[OPTIONS] [BUILD...]", .summary = "Forget builds; their images stay",
            .arity = any, .flags = flags::build_history_rm, .run = remove_builds},
    Command{.path = "builder prune", .aliases = "build prune", .usage = "[OPTIONS]", .summary = "Remove steps and cache mounts from the build cache",
            .arity = {0, 0}, .flags = flags::build_prune, .run = prune_build_cache},
    Command{.path = "context create", .aliases = "", .usage = "[OPTIONS] CONTEXT", .summary = "Give a daemon a name",
            .arity = {1, 1}, .flags = flags::context_create, .run = create_context,
            .details = "Contexts are kept where docker keeps them and serve both clients. Without --docker and --from it is this command line's own daemon.\n"
                       "Example: caisson context create far --docker host=ssh://me@far.example.org"},
    Command{.path = "context export", .aliases = "", .usage = "CONTEXT [FILE|-]", .summary = "Write a context and its keys to an archive",
            .arity = {1, 2}, .flags = none, .words = Words::contexts, .run = export_context},
    Command{.path = "context import", .aliases = "", .usage = "CONTEXT FILE|-", .summary = "Make a context from an archive",
            .arity = {2, 2}, .flags = none, .words = Words::files, .run = import_context},
    Command{.path = "context inspect", .aliases = "", .usage = "[OPTIONS] [CONTEXT] [CONTEXT...]", .summary = "Show everything about contexts",
            .arity = any, .flags = flags::inspect_plain, .words = Words::contexts, .run = inspect_contexts},
    Command{.path = "context ls", .aliases = "context list", .usage = "[OPTIONS]", .summary = "List contexts", .arity = {0, 0}, .flags = flags::context_ls, .run = list_contexts},
    Command{.path = "context rm", .aliases = "context remove", .usage = "[OPTIONS] CONTEXT [CONTEXT...]", .summary = "Remove contexts",
            .arity = some, .flags = flags::context_rm, .words = Words::contexts, .run = remove_contexts},
    Command{.path = "context show", .aliases = "", .usage = "", .summary = "Print the name of the context in use", .arity = {0, 0}, .flags = none, .run = show_context},
    Command{.path = "context update", .aliases = "", .usage = "[OPTIONS] CONTEXT", .summary = "Change a context",
            .arity = {1, 1}, .flags = flags::context_update, .words = Words::contexts, .run = update_context},
    Command{.path = "context use", .aliases = "", .usage = "CONTEXT", .summary = "Choose the context that is used when none is named",
            .arity = {1, 1}, .flags = none, .words = Words::contexts, .run = use_context,
            .details = "The choice is this command line's own; docker's current context stays what it is. \"default\" takes the choice back."},
    Command{.path = "image attached", .aliases = "", .usage = "[OPTIONS] IMAGE", .summary = "List what is attached to an image in its registry",
            .arity = {1, 1}, .flags = flags::image_attached, .words = Words::images, .run = list_attached,
            .details = "IMAGE is host/path:tag or oci:FOLDER[:TAG]. Signatures, bills of materials, attestations (OCI referrers), and what is attached to those."},
    Command{.path = "image bootstrap", .aliases = "", .usage = "[OPTIONS] DISTRIBUTION:RELEASE", .summary = "Make a base image straight from a distribution's archive",
            .arity = {1, 1}, .flags = flags::bootstrap, .run = bootstrap_image,
            .details = "Example: caisson image bootstrap debian:bookworm --include nginx-light --tag web"},
    Command{.path = "image copy", .aliases = "", .usage = "[OPTIONS] SOURCE TARGET", .summary = "Copy an image from place to place, without this host's image store",
            .arity = {2, 2}, .flags = flags::image_copy, .words = Words::images, .run = copy_image,
            .details = "Places: host/path:tag (a registry), oci:FOLDER[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], local:NAME (this engine's).\n"
                       "Manifests stay as they are, so the digest does; only blobs that are missing at the target travel. Prints the digest."},
    Command{.path = "image inspect", .aliases = "", .usage = "[OPTIONS] IMAGE [IMAGE...]", .summary = "Show everything about images",
            .arity = some, .flags = flags::inspect_image, .words = Words::images, .run = inspect_images},
    Command{.path = "image prune", .aliases = "", .usage = "[OPTIONS]", .summary = "Remove images that nothing uses",
            .arity = {0, 0}, .flags = flags::image_prune, .run = prune_images},
    Command{.path = "image sbom", .aliases = "", .usage = "[OPTIONS] IMAGE", .summary = "List the packages in an image as a bill of materials",
            .arity = {1, 1}, .flags = flags::image_sbom, .words = Words::images, .run = show_sbom,
            .details = "IMAGE is this engine's, or docker://host/path:tag, oci:FOLDER[:TAG], oci-archive:FILE. Packages of dpkg, apk and rpm are listed, each with the layer it "
                       "came with. The same image gives the same bytes.\n"
                       "With --attach and --attached a plain name is an image in its registry.\n"
                       "Example: caisson image sbom --attach --key team.key registry.example/app:1"},
    Command{.path = "image scan", .aliases = "", .usage = "[OPTIONS] --data FILE IMAGE", .summary = "Show what is known to be wrong with the packages in an image",
            .arity = {1, 1}, .flags = flags::image_scan, .words = Words::images, .run = scan_image,
            .details = "Nothing is asked of anybody: the knowledge is a file, such as https://osv-vulnerabilities.storage.googleapis.com/Debian/all.zip or "
                       "https://security-tracker.debian.org/tracker/data/json.\nExample: caisson image scan --data all.zip --severity high --exit-code 1 web:1"},
    Command{.path = "image sync", .aliases = "", .usage = "[OPTIONS] [REPOSITORY[:TAG]...|oci:FOLDER] TARGET", .summary = "Bring a registry or a folder up to date with another",
            .arity = some, .flags = flags::image_sync, .run = sync_images,
            .details = "TARGET is host[:port][/path] or oci:FOLDER, which gets a layout per repository. Tags may be patterns: alpine:3.*. Ends with 1 when an image failed; "
                       "the others were copied nevertheless.\n"
                       "Example: caisson image sync --all --file images.yaml registry.example.org/mirror"},
    Command{.path = "network connect", .aliases = "", .usage = "[OPTIONS] NETWORK CONTAINER", .summary = "Connect a container to a network",
            .arity = {2, 2}, .flags = flags::network_connect, .words = Words::networks, .run = connect_network},
    Command{.path = "network create", .aliases = "", .usage = "[OPTIONS] NETWORK", .summary = "Make a network",
            .arity = {1, 1}, .flags = flags::network_create, .run = create_network},
    Command{.path = "network disconnect", .aliases = "", .usage = "[OPTIONS] NETWORK CONTAINER", .summary = "Take a container off a network",
            .arity = {2, 2}, .flags = flags::network_disconnect, .words = Words::networks, .run = disconnect_network},
    Command{.path = "network inspect", .aliases = "", .usage = "[OPTIONS] NETWORK [NETWORK...]", .summary = "Show everything about networks",
            .arity = some, .flags = flags::network_inspect, .words = Words::networks, .run = inspect_networks},
    Command{.path = "network ls", .aliases = "network list", .usage = "[OPTIONS]", .summary = "List networks",
            .arity = {0, 0}, .flags = flags::network_ls, .run = list_networks},
    Command{.path = "network prune", .aliases = "", .usage = "[OPTIONS]", .summary = "Remove networks that no container uses",
            .arity = {0, 0}, .flags = flags::prune, .run = prune_networks},
    Command{.path = "network rm", .aliases = "network remove", .usage = "[OPTIONS] NETWORK [NETWORK...]", .summary = "Remove networks",
            .arity = some, .flags = flags::network_rm, .words = Words::networks, .run = remove_networks},
    Command{.path = "plugin ls", .aliases = "plugin list", .usage = "[OPTIONS]", .summary = "List plugins; there are none, since everything is built in",
            .arity = {0, 0}, .flags = flags::plugin_ls, .run = list_plugins},
    // What docker's client runs on this side of an ssh:// connection. Docker does not show it either.
    Command{.path = "system dial-stdio", .aliases = "", .usage = "", .summary = "Carry one connection to the daemon over standard input and output",
            .arity = {0, 0}, .flags = none, .run = dial_stdio, .hidden = true},
    Command{.path = "registry serve", .aliases = "", .usage = "[OPTIONS]", .summary = "Serve images to any client, from a folder",
            .arity = {0, 0}, .flags = flags::registry_serve, .run = serve_registry,
            .details = "Runs in the foreground, without any right on this host. Whatever flags do not say stands in /etc/caisson/registry.toml: users, quotas, other "
                       "registries to copy from, web-hooks."},
    Command{.path = "registry ls", .aliases = "registry list", .usage = "[OPTIONS] [REPOSITORY]", .summary = "List the registry's repositories, or the tags of one",
            .arity = {0, 1}, .flags = flags::registry_ls, .run = list_registry},
    Command{.path = "registry rm", .aliases = "registry remove", .usage = "[OPTIONS] REPOSITORY[:TAG|@DIGEST]...", .summary = "Remove repositories, tags or manifests from the registry",
            .arity = some, .flags = flags::registry, .run = remove_from_registry},
    Command{.path = "registry gc", .aliases = "", .usage = "[OPTIONS]", .summary = "Remove from the registry what nothing leads to any more",
            .arity = {0, 0}, .flags = flags::registry_gc, .run = clean_registry, .details = "Works while the registry serves and is pushed to."},
    Command{.path = "registry du", .aliases = "", .usage = "[OPTIONS]", .summary = "Show what takes space in the registry",
            .arity = {0, 0}, .flags = flags::registry_ls, .run = show_registry_usage},
    Command{.path = "system df", .aliases = "", .usage = "[OPTIONS]", .summary = "Show what takes disk space",
            .arity = {0, 0}, .flags = flags::system_df, .run = show_disk_usage},
    Command{.path = "system prune", .aliases = "", .usage = "[OPTIONS]", .summary = "Remove everything that nothing uses",
            .arity = {0, 0}, .flags = flags::system_prune, .run = prune_system},
    Command{.path = "volume create", .aliases = "", .usage = "[OPTIONS] [VOLUME]", .summary = "Make a volume",
            .arity = {0, 1}, .flags = flags::volume_create, .run = create_volume},
    Command{.path = "volume inspect", .aliases = "", .usage = "[OPTIONS] VOLUME [VOLUME...]", .summary = "Show everything about volumes",
            .arity = some, .flags = flags::inspect_plain, .words = Words::volumes, .run = inspect_volumes},
    Command{.path = "volume ls", .aliases = "volume list", .usage = "[OPTIONS]", .summary = "List volumes",
            .arity = {0, 0}, .flags = flags::volume_ls, .run = list_volumes},
    Command{.path = "volume prune", .aliases = "", .usage = "[OPTIONS]", .summary = "Remove volumes that no container uses",
            .arity = {0, 0}, .flags = flags::volume_prune, .run = prune_volumes},
    Command{.path = "volume rm", .aliases = "volume remove", .usage = "[OPTIONS] VOLUME [VOLUME...]", .summary = "Remove volumes",
            .arity = some, .flags = flags::volume_rm, .words = Words::volumes, .run = remove_volumes},

    refused("checkpoint", "", "the engine keeps no checkpoints; 'caisson-runtime checkpoint' makes one of a bundle"),
    refused("manifest", "", "images of several platforms are not put together here; 'skopeo inspect --raw docker://NAME' shows a registry's manifest"),
    refused("plugin install", "plugin create, plugin disable, plugin enable, plugin inspect, plugin push, plugin rm, plugin remove, plugin set, plugin upgrade",
            "this engine runs no plugins"),
    refused("trust", "", "Docker Content Trust is at its end; sign with cosign, and pull by digest"),
    refused("volume update", "", flags::for_swarm),
    refused("swarm", "node, service, stack, secret, config", "this engine runs on one host"),

    // Packages make the manual with it, from this table.
    Command{.path = "__man", .aliases = "", .usage = "FOLDER", .summary = "Write the manual pages of all commands", .arity = {1, 1}, .flags = none,
            .words = Words::files, .run = write_manual, .hidden = true},
    // What shells call for completion. Its words are another command line, flags included.
    Command{.path = "__complete", .aliases = "", .usage = "[WORDS...]", .summary = "Answer a shell's question for completions", .arity = any,
            .flags = none, .run = complete, .hidden = true, .raw_words = true},
};

}  // namespace

std::span<const Command> all_commands() { return table; }

std::span<const Flag> global_flags() { return flags::global; }

const Command* find_command(std::string_view path) {
  for (const auto& command : table) {
    if (command.path == path) return &command;
    if (command.aliases.empty()) continue;
    for (auto alias : split(command.aliases, ','))
      if (trim(alias) == path) return &command;
  }
  return nullptr;
}

const Flag* find_flag(std::span<const Flag> flags, std::string_view name) {
  for (const auto& flag : flags)
    if (flag.name == name) return flag.same_as.empty() ? &flag : find_flag(flags, flag.same_as);
  return nullptr;
}

const Flag* find_flag(std::span<const Flag> flags, char letter) {
  for (const auto& flag : flags)
    if (flag.letter == letter && letter != 0) return &flag;
  return nullptr;
}

}  // namespace caisson::cli
