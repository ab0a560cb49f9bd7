// Every handler of the API, by file.
#pragma once

#include "api/request.hpp"

namespace caisson::api {

// system.cpp
Status ping(Request& request);
Status show_version(Request& request);
Status show_info(Request& request);
Status stream_events(Request& request);
Status show_disk_usage(Request& request);
Status list_plugins(Request& request);
Status no_such_plugin(Request& request);
Status refuse_plugin(Request& request);
Status refuse_swarm(Request& request);
Status leave_no_swarm(Request& request);
Status found_no_swarm(Request& request);
Status no_buildkit(Request& request);

// containers.cpp
Status create_container(Request& request);
Status list_containers(Request& request);
Status inspect_container(Request& request);
Status start_container(Request& request);
Status stop_container(Request& request);
Status restart_container(Request& request);
Status kill_container(Request& request);
Status pause_container(Request& request);
Status unpause_container(Request& request);
Status remove_container(Request& request);
Status rename_container(Request& request);
Status update_container(Request& request);
Status resize_container(Request& request);
Status top_container(Request& request);
Status show_identity(Request& request);
Status prune_containers(Request& request);

// security.cpp
Status explain_container(Request& request);
Status begin_learning(Request& request);
Status show_learned(Request& request);
Status end_learning(Request& request);

// container_streams.cpp
Status wait_container(Request& request);
Status stream_logs(Request& request);
Status attach_container(Request& request);
Status attach_websocket(Request& request);
Status stream_stats(Request& request);

// container_files.cpp
Status show_changes(Request& request);
Status export_container(Request& request);
Status stat_archive(Request& request);
Status get_archive(Request& request);
Status put_archive(Request& request);
Status commit_container(Request& request);

// execs.cpp
Status create_exec(Request& request);
Status start_exec(Request& request);
Status inspect_exec(Request& request);
Status resize_exec(Request& request);

// images.cpp
Status list_images(Request& request);
Status inspect_image(Request& request);
Status show_history(Request& request);
Status tag_image(Request& request);
Status remove_image(Request& request);
Status prune_images(Request& request);

// image_transfer.cpp
Status create_image(Request& request);
Status load_images(Request& request);
Status save_one_image(Request& request);
Status save_images(Request& request);
Status bootstrap_image(Request& request);

// registry.cpp
Status pull_image(Request& request);
Status push_image(Request& request);
Status login(Request& request);
Status search_images(Request& request);
Status inspect_distribution(Request& request);
Status verify_image(Request& request);
Status attach_signature(Request& request);

// build.cpp
Status build_image(Request& request);
Status lend_agent(Request& request);
Status list_missing_files(Request& request);
Status prune_build_cache(Request& request);
Status list_cache_mounts(Request& request);
Status remove_cache_mount(Request& request);
Status export_cache_mount(Request& request);
Status import_cache_mount(Request& request);
Status list_builds(Request& request);
Status inspect_build(Request& request);
Status show_build_log(Request& request);
Status remove_build(Request& request);

// volumes.cpp
Status list_volumes(Request& request);
Status create_volume(Request& request);
Status inspect_volume(Request& request);
Status remove_volume(Request& request);
Status prune_volumes(Request& request);

// networks.cpp
Status list_networks(Request& request);
Status inspect_network(Request& request);
Status create_network(Request& request);
Status remove_network(Request& request);
Status connect_network(Request& request);
Status disconnect_network(Request& request);
Status prune_networks(Request& request);

}  // namespace caisson::api
