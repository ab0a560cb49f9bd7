// The environment of this process: the only place that reads or changes it.
#pragma once

#include <string>
#include <vector>

namespace caisson {

/// The value of `name`, nullptr when it is not set. The text stays as it is while nobody changes the variable: our programs do that
/// before their first thread only, so that any thread may read (environ(7), getenv(3) "MT-Safe env").
const char* environment(const char* name) noexcept;

/// The same as text: empty when it is not set.
std::string environment_text(const char* name);

/// All of it, a "NAME=VALUE" each: for a program that goes on in our place.
std::vector<std::string> whole_environment();

/// Takes `name` out, so that no program started later inherits it. Precondition: this process has one thread.
void forget_environment(const char* name) noexcept;

}  // namespace caisson
