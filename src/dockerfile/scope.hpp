// What a variable means at a place of the Dockerfile: global arguments for FROM, a stage's arguments and environment for the rest.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "dockerfile/expand.hpp"
#include "dockerfile/parser.hpp"

namespace caisson::dockerfile {

using Arguments = std::map<std::string, std::string, std::less<>>;

/// TARGETPLATFORM, TARGETOS … BUILDVARIANT. The platforms are "linux/arm64/v8".
Arguments platform_arguments(std::string_view target_platform, std::string_view build_platform, std::string_view target_stage);

/// HTTP_PROXY and its kin: given to RUN without being declared, and kept out of cache keys and history.
bool is_proxy_argument(std::string_view name);

/// Before the first FROM.
class GlobalScope {
 public:
  /// `given`: what --build-arg says; not expanded.
  GlobalScope(Arguments platform, Arguments given) : platform_(std::move(platform)), given_(std::move(given)) {}

  /// ARG before FROM. Errors: invalid, from its default.
  Status declare(const Instruction& argument, char escape);
  /// In FROM and its --platform.
  [[nodiscard]] Lookup lookup() const;
  [[nodiscard]] std::optional<std::string> value(std::string_view name) const;
  [[nodiscard]] const Arguments& given() const { return given_; }
  /// Names declared so far, for "did you mean".
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  Arguments platform_;
  Arguments given_;
  std::map<std::string, std::optional<std::string>, std::less<>> declared_;
};

/// Within a stage.
class StageScope {
 public:
  explicit StageScope(const GlobalScope& globals, char escape = '\\') : globals_(&globals), escape_(escape) {}

  /// A stage built FROM another one begins with that one's arguments.
  void inherit(const StageScope& base) { arguments_ = base.arguments_; }
  /// "K=V" of the image that the stage begins with.
  void set_environment(std::vector<std::string> environment) { environment_ = std::move(environment); }

  /// ARG: the value given with --build-arg, else the default, else the global value. Errors: invalid.
  struct Declared {
    std::string name;
    std::optional<std::string> value;
    bool has_default = false;
  };
  Result<std::vector<Declared>> declare(const Instruction& argument);
  /// ENV and LABEL: keys and values expanded by what was known before the instruction. Errors: invalid.
  Result<std::vector<Pair>> expand_pairs(const Instruction& instruction);
  void set(std::string_view key, std::string_view value);

  Result<std::string> expand(std::string_view text);
  Result<std::vector<std::string>> expand_words(std::string_view text);
  Result<std::string> expand_body(std::string_view text);

  [[nodiscard]] std::optional<std::string> value(std::string_view name) const;
  [[nodiscard]] const std::vector<std::string>& environment() const { return environment_; }
  /// "A=1" of the arguments that have a value and that no ENV hides, by name.
  [[nodiscard]] std::vector<std::string> visible_arguments() const;
  [[nodiscard]] std::vector<std::string> names() const;
  /// Names that expansions asked for since the last call, and found unset.
  std::vector<std::string> take_missing();

 private:
  template <typename Work>
  auto with_expander(Work work);

  const GlobalScope* globals_;
  char escape_;
  std::vector<std::string> environment_;
  std::map<std::string, std::optional<std::string>, std::less<>> arguments_;
  std::vector<std::string> missing_;
};

}  // namespace caisson::dockerfile
