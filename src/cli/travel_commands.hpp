// The commands on images that work without this host's image store: they ask registries, folders and archives themselves.
#pragma once

#include "base/result.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

Result<int> copy_image(Session& session, const Invocation& invocation);
Result<int> sync_images(Session& session, const Invocation& invocation);
Result<int> show_sbom(Session& session, const Invocation& invocation);
Result<int> list_attached(Session& session, const Invocation& invocation);
Result<int> scan_image(Session& session, const Invocation& invocation);
Result<int> export_cache_mount(Session& session, const Invocation& invocation);
Result<int> import_cache_mount(Session& session, const Invocation& invocation);

}  // namespace caisson::cli
