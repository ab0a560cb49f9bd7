// How a container of GET /containers/json looks in a list.
#pragma once

#include <string>

#include "base/json.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "cli/listing.hpp"

namespace caisson::cli {

/// `now` is what "3 hours ago" is counted from; `no_trunc` shows ids, commands and mounts in full.
Result<Row> container_row(const JsonView& container, TimestampNs now, bool no_trunc);
/// "0.0.0.0:8080->80/tcp, 443/tcp": neighbouring ports are shown as a range, as docker does.
Result<std::string> displayed_ports(const JsonView& ports);
std::span<const Column> container_columns();

/// "2026-11-20 15:27:32 +0000 UTC"
std::string list_time(TimestampNs time);
/// "k=v,k2=v2" in key order.
std::string displayed_labels(const json::object& labels);

}  // namespace caisson::cli
