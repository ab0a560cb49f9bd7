// The one setting of the daemon's file that decides which policy counts.
#include "cli/policy_places.hpp"

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "base/toml.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

Result<trust::PolicyPlaces> daemon_policy_places() {
  constexpr const char* config_path = "/etc/caisson/caisson.toml";
  trust::PolicyPlaces places{"", trust::usual_policy_places(environment_text("HOME"))};
  auto text = linux::read_file(config_path);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return places;
  const auto table = TRY(parse_toml(TRY(std::move(text), config_path)), config_path);
  if (auto chosen = table["trust"]["policy"].value<std::string>()) places.chosen = std::move(*chosen);
  return places;
}

}  // namespace caisson::cli
