// Small pieces of Docker-shaped JSON that several answers share.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/json_array.hpp"
#include "build/builder.hpp"
#include "engine/types.hpp"

namespace caisson::api {

/// null for an empty list, where Docker gives null.
json::value texts_or_null(const std::vector<std::string>& items);
json::object text_map(const std::map<std::string, std::string>& items);
json::value text_map_or_null(const std::map<std::string, std::string>& items);
/// {"80/tcp": {}}: how Docker writes sets.
json::object text_set(const std::vector<std::string>& items);
std::int64_t unix_seconds(TimestampNs time);

/// "/name".
std::string slashed(std::string_view name);
std::string_view protocol_name(network::Protocol protocol);
/// "80/tcp".
std::string port_key(const network::PortBinding& binding);

json::object mount_point_json(const engine::MountPoint& mount);
/// One entry of NetworkSettings.Networks.
json::object endpoint_json(const engine::EndpointSpec& spec, const network::Endpoint* endpoint, const std::string& container_id);
/// The `Healthcheck` of a configuration; null when unset.
json::value healthcheck_json(const std::optional<image::Healthcheck>& healthcheck);

// container_json.cpp
json::object container_json(const engine::ContainerInfo& info);
json::object container_summary_json(const engine::ContainerSummary& summary);
// image_json.cpp
json::object image_summary_json(const engine::ImageInfo& info, bool with_virtual_size);
json::object image_json(const engine::ImageInfo& info, bool with_virtual_size);
// build.cpp
/// `BuildCache` of /system/df.
json::array build_cache_json(const std::vector<build::CacheEntry>& entries);
json::object volume_json(const engine::VolumeInfo& volume);
json::object network_json(const engine::NetworkInfo& info, bool with_containers);

}  // namespace caisson::api
