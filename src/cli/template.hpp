// Go's text/template, as far as docker's --format uses it, over JSON documents.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::cli {

namespace tpl {
struct Node;
}

/// What a template is applied to.
struct TemplateData {
  const json::value* root = nullptr;      ///< the dot; borrowed
  const json::object* labels = nullptr;   ///< what `.Label "key"` looks into; nullptr: there is no such method
  /// For a table's head line: json, split, join, title, lower, upper and truncate hand their value through (docker's rule).
  bool is_header = false;
};

/// A parsed template. Actions (`if`, `else`, `range`, `with`, `break`, `continue`, variables, pipelines, comments, `{{-` and
/// `-}}`), fields, and the functions json split join lower upper title pad truncate print printf println len index slice
/// html js urlquery and or not eq ne lt le gt ge. `define`, `template` and `block` are not part of docker's use and are refused.
class Template {
 public:
  /// Errors: invalid, "template: LINE:COLUMN: …".
  static Result<Template> parse(std::string_view text);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  /// Errors: invalid; an unknown field names the nearest one that exists.
  [[nodiscard]] Result<std::string> render(const TemplateData& data) const;
  /// Does any `.NAME` occur at the top? (`ps` asks the daemon for sizes only when .Size is wanted.)
  [[nodiscard]] bool uses_field(std::string_view name) const;

 private:
  explicit Template(std::unique_ptr<tpl::Node> root);
  std::unique_ptr<tpl::Node> root_;
};

/// "\t" and "\n" typed as two characters become one (docker does this for lists, not for inspect).
std::string unescape_format(std::string_view format);

}  // namespace caisson::cli
