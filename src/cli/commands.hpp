// What each command does; the command table points here. Each returns the exit code, or an error to be printed.
#pragma once

#include "base/result.hpp"
#include "cli/command.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

// Containers: life.
Result<int> run_container(Session& session, const Invocation& invocation);
Result<int> create_container(Session& session, const Invocation& invocation);
Result<int> start_containers(Session& session, const Invocation& invocation);
Result<int> stop_containers(Session& session, const Invocation& invocation);
Result<int> restart_containers(Session& session, const Invocation& invocation);
Result<int> kill_containers(Session& session, const Invocation& invocation);
Result<int> pause_containers(Session& session, const Invocation& invocation);
Result<int> unpause_containers(Session& session, const Invocation& invocation);
Result<int> wait_containers(Session& session, const Invocation& invocation);
Result<int> remove_containers(Session& session, const Invocation& invocation);
Result<int> rename_container(Session& session, const Invocation& invocation);
Result<int> update_containers(Session& session, const Invocation& invocation);
Result<int> prune_containers(Session& session, const Invocation& invocation);

// Containers: streams.
Result<int> attach_container(Session& session, const Invocation& invocation);
Result<int> exec_in_container(Session& session, const Invocation& invocation);
Result<int> show_logs(Session& session, const Invocation& invocation);

// Containers: views.
Result<int> list_containers(Session& session, const Invocation& invocation);
Result<int> show_top(Session& session, const Invocation& invocation);
Result<int> show_stats(Session& session, const Invocation& invocation);
Result<int> show_ports(Session& session, const Invocation& invocation);
Result<int> inspect_any(Session& session, const Invocation& invocation);
Result<int> inspect_containers(Session& session, const Invocation& invocation);

// Images: trust.
Result<int> sign_image(Session& session, const Invocation& invocation);
Result<int> verify_image(Session& session, const Invocation& invocation);
Result<int> generate_key(Session& session, const Invocation& invocation);
Result<int> show_trust(Session& session, const Invocation& invocation);
Result<int> set_trust(Session& session, const Invocation& invocation);

// Roles: who may do what.
Result<int> check_roles(Session& session, const Invocation& invocation);
Result<int> show_role(Session& session, const Invocation& invocation);
Result<int> make_role_token(Session& session, const Invocation& invocation);
Result<int> list_verbs(Session& session, const Invocation& invocation);

// Containers: the box they are in.
Result<int> explain_container(Session& session, const Invocation& invocation);
Result<int> learn_container(Session& session, const Invocation& invocation);

// Containers: files.
Result<int> copy_files(Session& session, const Invocation& invocation);
Result<int> show_changes(Session& session, const Invocation& invocation);
Result<int> export_container(Session& session, const Invocation& invocation);
Result<int> commit_container(Session& session, const Invocation& invocation);

// Images.
Result<int> list_images(Session& session, const Invocation& invocation);
Result<int> inspect_images(Session& session, const Invocation& invocation);
Result<int> tag_image(Session& session, const Invocation& invocation);
Result<int> remove_images(Session& session, const Invocation& invocation);
Result<int> show_history(Session& session, const Invocation& invocation);
Result<int> import_image(Session& session, const Invocation& invocation);
Result<int> load_images(Session& session, const Invocation& invocation);
Result<int> save_images(Session& session, const Invocation& invocation);
Result<int> build_image(Session& session, const Invocation& invocation);
Result<int> prune_build_cache(Session& session, const Invocation& invocation);
Result<int> list_cache_mounts(Session& session, const Invocation& invocation);
Result<int> inspect_cache_mounts(Session& session, const Invocation& invocation);
Result<int> remove_cache_mounts(Session& session, const Invocation& invocation);
Result<int> bake_targets(Session& session, const Invocation& invocation);
Result<int> list_builds(Session& session, const Invocation& invocation);
Result<int> inspect_build(Session& session, const Invocation& invocation);
Result<int> show_build_log(Session& session, const Invocation& invocation);
Result<int> remove_builds(Session& session, const Invocation& invocation);
Result<int> bootstrap_image(Session& session, const Invocation& invocation);
Result<int> prune_images(Session& session, const Invocation& invocation);

// Registries.
Result<int> pull_image(Session& session, const Invocation& invocation);
Result<int> push_image(Session& session, const Invocation& invocation);
Result<int> login(Session& session, const Invocation& invocation);
Result<int> logout(Session& session, const Invocation& invocation);
Result<int> search_images(Session& session, const Invocation& invocation);

// The registry server's own program does the work of these: serve, ls, rm, gc, du.
Result<int> serve_registry(Session& session, const Invocation& invocation);
Result<int> list_registry(Session& session, const Invocation& invocation);
Result<int> remove_from_registry(Session& session, const Invocation& invocation);
Result<int> clean_registry(Session& session, const Invocation& invocation);
Result<int> show_registry_usage(Session& session, const Invocation& invocation);

// Volumes and networks.
Result<int> create_volume(Session& session, const Invocation& invocation);
Result<int> list_volumes(Session& session, const Invocation& invocation);
Result<int> inspect_volumes(Session& session, const Invocation& invocation);
Result<int> remove_volumes(Session& session, const Invocation& invocation);
Result<int> prune_volumes(Session& session, const Invocation& invocation);

// networks.cpp
Result<int> list_networks(Session& session, const Invocation& invocation);
Result<int> create_network(Session& session, const Invocation& invocation);
Result<int> connect_network(Session& session, const Invocation& invocation);
Result<int> disconnect_network(Session& session, const Invocation& invocation);
Result<int> remove_networks(Session& session, const Invocation& invocation);
Result<int> prune_networks(Session& session, const Invocation& invocation);
Result<int> inspect_networks(Session& session, const Invocation& invocation);

// Contexts.
Result<int> list_contexts(Session& session, const Invocation& invocation);
Result<int> show_context(Session& session, const Invocation& invocation);
Result<int> use_context(Session& session, const Invocation& invocation);
Result<int> create_context(Session& session, const Invocation& invocation);
Result<int> update_context(Session& session, const Invocation& invocation);
Result<int> remove_contexts(Session& session, const Invocation& invocation);
Result<int> inspect_contexts(Session& session, const Invocation& invocation);
Result<int> export_context(Session& session, const Invocation& invocation);
Result<int> import_context(Session& session, const Invocation& invocation);

// The engine.
Result<int> dial_stdio(Session& session, const Invocation& invocation);
Result<int> list_plugins(Session& session, const Invocation& invocation);
Result<int> show_events(Session& session, const Invocation& invocation);
Result<int> show_info(Session& session, const Invocation& invocation);
Result<int> show_version(Session& session, const Invocation& invocation);
Result<int> show_disk_usage(Session& session, const Invocation& invocation);
Result<int> prune_system(Session& session, const Invocation& invocation);
Result<int> run_daemon(Session& session, const Invocation& invocation);
Result<int> show_help(Session& session, const Invocation& invocation);
Result<int> complete(Session& session, const Invocation& invocation);
Result<int> print_completion_script(Session& session, const Invocation& invocation);
Result<int> write_manual(Session& session, const Invocation& invocation);
Result<int> run_doctor(Session& session, const Invocation& invocation);
Result<int> import_docker(Session& session, const Invocation& invocation);

}  // namespace caisson::cli
