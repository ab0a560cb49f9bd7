// Lists of texts as JSON.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"

namespace caisson {

inline json::array texts(const std::vector<std::string>& items) {
  json::array out;
  for (const auto& item : items) out.emplace_back(item);
  return out;
}

}  // namespace caisson
