// Rows that `system df` shares with other lists.
#pragma once

#include "base/json.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "cli/listing.hpp"

namespace caisson::cli {

/// An entry of the build cache, in the words of `system df -v`; `no_trunc`: with its whole id.
Result<Row> cache_row(const JsonView& entry, TimestampNs now, bool no_trunc);

}  // namespace caisson::cli
