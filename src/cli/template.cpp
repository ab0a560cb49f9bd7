// Runs a template over a document.
#include "cli/template.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "cli/parse.hpp"
#include "cli/template_ast.hpp"
#include "cli/template_value.hpp"

namespace caisson::cli {

namespace {

using tpl::Node;
using tpl::NodeKind;
using tpl::Operand;
using tpl::OperandKind;
using tpl::Pipeline;
using tpl::Value;

// Members of Docker's documents that are maps with keys of the user's choice; everything else is a struct with fixed fields.
bool names_map(std::string_view field) {
  constexpr std::array<std::string_view, 19> maps = {"Labels", "Ports", "PortBindings", "ExposedPorts", "Volumes", "Networks", "EndpointsConfig",
      "Options", "Config", "DriverOpts", "Sysctls", "Tmpfs", "Annotations", "StorageOpt", "Data", "Attributes", "Containers", "Runtimes", "Details"};
  return std::find(maps.begin(), maps.end(), field) != maps.end();
}
// "Config" and "Volumes" name a struct or a list at the top of an inspect document; only maps have no fixed fields.
bool is_map_at(std::string_view field, const json::value& parent) {
  if (field == "Config") return parent.is_object() && parent.get_object().contains("Type");  // LogConfig.Config
  return names_map(field);
}
// Fields that Docker leaves out when unset; its typed templates see nil there.
bool may_be_absent(std::string_view field) {
  constexpr std::array<std::string_view, 14> list = {"Health", "Healthcheck", "Init", "StopTimeout", "StopSignal", "Mounts", "Tmpfs", "Sysctls",
      "Annotations", "StorageOpt", "SizeRw", "SizeRootFs", "UsageData", "Status"};
  return std::find(list.begin(), list.end(), field) != list.end();
}

enum class Flow : std::uint8_t { next, break_, continue_ };

class Run {
 public:
  Run(const TemplateData& data, std::string_view source) : data_(data), source_(source) {
    scope_.push_back({"", Value::borrow(*data.root)});
  }

  Result<Flow> list(const std::vector<std::unique_ptr<Node>>& nodes, const Value& dot) {
    std::size_t mark = scope_.size();
    Flow flow = Flow::next;
    for (const auto& node : nodes) {
      flow = TRY_PLAIN(one(*node, dot));
      if (flow != Flow::next) break;
    }
    scope_.resize(mark);
    return flow;
  }
  std::string take() { return std::move(out_); }

 private:
  struct Variable {
    std::string name;
    Value value;
  };

  Result<Flow> one(const Node& node, const Value& dot) {
    switch (node.kind) {
      case NodeKind::text: out_ += node.text; return Flow::next;
      case NodeKind::list: return list(node.body, dot);
      case NodeKind::break_: return Flow::break_;
      case NodeKind::continue_: return Flow::continue_;
      case NodeKind::action: {
        Value value = TRY_PLAIN(evaluate(node.pipeline, dot));
        if (node.pipeline.variables.empty()) out_ += to_print(value);
        else TRY_PLAIN(assign(node.pipeline, std::move(value)));
        return Flow::next;
      }
      case NodeKind::if_:
      case NodeKind::with: return branch(node, dot);
      case NodeKind::range: return range(node, dot);
    }
    return Flow::next;
  }

  Result<Flow> branch(const Node& node, const Value& dot) {
    std::size_t mark = scope_.size();
    Value condition = TRY_PLAIN(evaluate(node.pipeline, dot));
    if (!node.pipeline.variables.empty()) TRY_PLAIN(assign(node.pipeline, condition));
    Flow flow = Flow::next;
    if (is_true(condition)) flow = TRY_PLAIN(list(node.body, node.kind == NodeKind::with ? condition : dot));
    else flow = TRY_PLAIN(list(node.otherwise, dot));
    scope_.resize(mark);
    return flow;
  }

  Result<Flow> range(const Node& node, const Value& dot) {
    Value over = TRY_PLAIN(evaluate(node.pipeline, dot));
    std::vector<std::pair<Value, Value>> items;  // key, element
    auto element = [&](const json::value& item) { return over.is_borrowed() ? Value::borrow(item) : Value::own(item); };
    const auto& raw = over.get();
    if (const auto* array = raw.if_array()) {
      std::int64_t index = 0;
      for (const auto& item : *array) items.emplace_back(Value::own(index++), element(item));
    } else if (const auto* object = raw.if_object()) {
      for (const auto& member : *object) items.emplace_back(Value::own(json::value(member.key())), element(member.value()));
      std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.first.get().get_string() < b.first.get().get_string(); });
    } else if (!raw.is_null() && !over.is_missing()) {
      return tpl::error_at(source_, node.pipeline.at, concat("range can't iterate over ", to_print(over)));
    }
    if (items.empty()) return list(node.otherwise, dot);
    for (auto& [key, item] : items) {
      std::size_t mark = scope_.size();
      const auto& names = node.pipeline.variables;
      if (names.size() == 2) scope_.push_back({names[0], key});
      if (!names.empty()) scope_.push_back({names.back(), item});
      Flow flow = TRY_PLAIN(list(node.body, item));
      scope_.resize(mark);
      if (flow == Flow::break_) break;
    }
    return Flow::next;
  }

  Status assign(const Pipeline& pipeline, Value value) {
    const std::string& name = pipeline.variables[0];
    if (!pipeline.assigns) {
      scope_.push_back({name, std::move(value)});
      return {};
    }
    for (auto variable = scope_.rbegin(); variable != scope_.rend(); ++variable)
      if (variable->name == name) {
        variable->value = std::move(value);
        return {};
      }
    return tpl::error_at(source_, pipeline.at, concat("undefined variable \"$", name, "\""));
  }

  Result<Value> evaluate(const Pipeline& pipeline, const Value& dot) {
    Value value;
    bool has_value = false;
    for (const auto& command : pipeline.commands) {
      value = TRY_PLAIN(evaluate(command, dot, has_value ? &value : nullptr));
      has_value = true;
    }
    return value;
  }

  // `piped`: what stands before the "|"; it becomes the last argument.
  Result<Value> evaluate(const tpl::Command& command, const Value& dot, const Value* piped) {
    const Operand& head = command.operands[0];
    if (head.kind == OperandKind::function) return call(command, dot, piped);
    if (head.kind == OperandKind::dot && head.fields.size() == 1 && head.fields[0] == "Label" && data_.labels != nullptr)
      return label(command, dot, piped);
    if (command.operands.size() > 1 || piped != nullptr)
      return tpl::error_at(source_, head.at, "can't give argument to non-function");
    return operand(head, dot);
  }

  Result<Value> label(const tpl::Command& command, const Value& dot, const Value* piped) {
    if (data_.is_header) {
      // docker titles such a column with the key's last part
      if (command.operands.size() != 2) return Value::own(json::value(""));
      std::string key = to_print(TRY_PLAIN(operand(command.operands[1], dot)));
      std::string last(split_last(key, '.').after.empty() ? std::string_view(key) : split_last(key, '.').after);
      for (char& c : last) c = c == '-' || c == '_' ? ' ' : c;
      return Value::own(json::value(last));
    }
    if (command.operands.size() + (piped != nullptr ? 1 : 0) != 2)
      return tpl::error_at(source_, command.operands[0].at, "wrong number of args for Label: want 1");
    Value key = command.operands.size() == 2 ? TRY_PLAIN(operand(command.operands[1], dot)) : *piped;
    const auto* found = data_.labels->if_contains(to_print(key));
    return found == nullptr ? Value::own(json::value("")) : Value::borrow(*found);
  }

  Result<Value> call(const tpl::Command& command, const Value& dot, const Value* piped) {
    const Operand& head = command.operands[0];
    std::span<const Operand> rest = std::span(command.operands).subspan(1);
    if (head.name == "and" || head.name == "or") return short_circuit(head, rest, dot, piped);
    std::vector<Value> arguments;
    for (const auto& item : rest) arguments.push_back(TRY_PLAIN(operand(item, dot)));
    if (piped != nullptr) arguments.push_back(*piped);
    auto result = tpl::call_function(head.name, std::move(arguments), data_.is_header);
    if (!result.ok()) return tpl::error_at(source_, head.at, result.error().text());
    return result;
  }

  Result<Value> short_circuit(const Operand& head, std::span<const Operand> rest, const Value& dot, const Value* piped) {
    Value value;
    if (rest.empty() && piped == nullptr) return tpl::error_at(source_, head.at, concat("wrong number of args for ", head.name, ": want at least 1 got 0"));
    for (const auto& item : rest) {
      value = TRY_PLAIN(operand(item, dot));
      if (is_true(value) == (head.name == "or")) return value;
    }
    return piped != nullptr ? *piped : value;
  }

  Result<Value> operand(const Operand& item, const Value& dot) {
    Value value;
    switch (item.kind) {
      case OperandKind::dot: value = dot; break;
      case OperandKind::literal: value = item.is_nil ? Value() : Value::own(item.literal); break;
      case OperandKind::paren: value = TRY_PLAIN(evaluate(*item.inner, dot)); break;
      case OperandKind::function: {
        auto result = tpl::call_function(item.name, {}, data_.is_header);
        if (!result.ok()) return tpl::error_at(source_, item.at, result.error().text());
        value = std::move(result).value();
        break;
      }
      case OperandKind::variable: value = TRY_PLAIN(variable(item)); break;
    }
    for (const auto& field : item.fields) {
      if (data_.is_header && !value.get().is_object()) break;  // .Labels.x: the head line is that of .Labels
      value = TRY_PLAIN(member(value, field, item));
    }
    return value;
  }

  Result<Value> variable(const Operand& item) {
    for (auto entry = scope_.rbegin(); entry != scope_.rend(); ++entry)
      if (entry->name == item.name) return entry->value;
    return tpl::error_at(source_, item.at, concat("undefined variable \"$", item.name, "\""));
  }

  Result<Value> member(const Value& value, const std::string& field, const Operand& item) {
    const auto& raw = value.get();
    if (value.is_missing()) return Value::missing();
    if (raw.is_null()) return tpl::error_at(source_, item.at, concat("nil pointer evaluating .", field));
    const auto* object = raw.if_object();
    if (object == nullptr) return tpl::error_at(source_, item.at, concat("can't evaluate field ", field, " in ", to_print(value)));
    if (const auto* found = object->if_contains(field)) {
      bool is_map = found->is_object() && is_map_at(field, raw);
      return value.is_borrowed() ? Value::borrow(*found, is_map) : Value::own(*found);
    }
    if (value.is_map()) return Value::missing();
    if (may_be_absent(field) && value.get() != *data_.root) return Value();
    std::vector<std::string_view> fields;
    for (const auto& entry : *object) fields.emplace_back(entry.key());
    std::string near = nearest(field, fields);
    return tpl::error_at(source_, item.at,
                         near.empty() ? concat("there is no field .", field) : concat("there is no field .", field, "; the nearest is .", near));
  }

  const TemplateData& data_;
  std::string_view source_;
  std::vector<Variable> scope_;
  std::string out_;
};

Status check_functions(const std::vector<std::unique_ptr<Node>>& nodes, std::string_view source);

Status check_functions(const Pipeline& pipeline, std::string_view source) {
  for (const auto& command : pipeline.commands)
    for (const auto& item : command.operands) {
      if (item.kind == OperandKind::function && !tpl::is_function(item.name)) {
        std::string near = nearest(item.name, tpl::function_names());
        return tpl::error_at(source, item.at, concat("function \"", item.name, "\" not defined", near.empty() ? "" : concat("; the nearest is ", near)));
      }
      if (item.inner) TRY_PLAIN(check_functions(*item.inner, source));
    }
  return {};
}

Status check_functions(const std::vector<std::unique_ptr<Node>>& nodes, std::string_view source) {
  for (const auto& node : nodes) {
    TRY_PLAIN(check_functions(node->pipeline, source));
    TRY_PLAIN(check_functions(node->body, source));
    TRY_PLAIN(check_functions(node->otherwise, source));
  }
  return {};
}

bool mentions(const Pipeline& pipeline, std::string_view name) {
  for (const auto& command : pipeline.commands)
    for (const auto& item : command.operands) {
      if (item.kind != OperandKind::variable && !item.fields.empty() && item.fields[0] == name) return true;
      if (item.inner && mentions(*item.inner, name)) return true;
    }
  return false;
}

bool mentions(const std::vector<std::unique_ptr<Node>>& nodes, std::string_view name) {
  for (const auto& node : nodes)
    if (mentions(node->pipeline, name) || mentions(node->body, name) || mentions(node->otherwise, name)) return true;
  return false;
}

}  // namespace

Template::Template(std::unique_ptr<tpl::Node> root) : root_(std::move(root)) {}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

Result<Template> Template::parse(std::string_view text) {
  auto root = TRY_PLAIN(tpl::parse(text));
  TRY_PLAIN(check_functions(root->body, root->source));
  return Template(std::move(root));
}

Result<std::string> Template::render(const TemplateData& data) const {
  Run run(data, root_->source);
  TRY_PLAIN(run.list(root_->body, Value::borrow(*data.root)));
  return run.take();
}

bool Template::uses_field(std::string_view name) const { return mentions(root_->body, name); }

std::string unescape_format(std::string_view format) {
  return replace_all(replace_all(format, "\\t", "\t"), "\\n", "\n");
}

}  // namespace caisson::cli
