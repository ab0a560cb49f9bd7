// "Did you mean": the name of something that is there, near to the one that was asked for and is not.
#pragma once

#include <string>
#include <string_view>

#include "cli/session.hpp"

namespace caisson::cli {

/// `target`: a request's path, such as "/containers/webb/start". The nearest name in that collection, or "" (also when the daemon takes
/// more than a moment, or the path names no object).
std::string suggest_for(Session& session, std::string_view target);

/// The same for a name of any of these kinds, in the order in which they are given: "containers", "images", "volumes", "networks".
std::string suggest_name(Session& session, std::string_view collection, std::string_view name);

/// A not_found error of the last request with a hint, when something is near; every other one as it is.
Error with_suggestion(Session& session, const Error& error);

}  // namespace caisson::cli
