// Files are read into targets of raw attributes; variables, functions and matrices are worked out when a target is; inheritance and overrides last.
#include "bake/bake.hpp"

#include <algorithm>
#include <set>

#include "bake/evaluate.hpp"
#include "base/strings.hpp"
#include "base/yaml.hpp"

namespace caisson::bake {

namespace {

constexpr std::size_t most_targets = 1000;
constexpr std::string_view known_blocks_text = "target, group, variable, function";

/// What a target's attributes are, and how those of several files and parents come together.
enum class AttributeKind : std::uint8_t { text, boolean, list, map };
struct KnownAttribute {
  std::string_view name;
  AttributeKind kind;
};
constexpr KnownAttribute known_attributes[] = {
    {"context", AttributeKind::text},     {"dockerfile", AttributeKind::text}, {"dockerfile-inline", AttributeKind::text}, {"target", AttributeKind::text},
    {"network", AttributeKind::text},     {"shm-size", AttributeKind::text},   {"description", AttributeKind::text},       {"contexts", AttributeKind::map},
    {"args", AttributeKind::map},         {"labels", AttributeKind::map},      {"tags", AttributeKind::list},              {"platforms", AttributeKind::list},
    {"cache-from", AttributeKind::list},  {"cache-to", AttributeKind::list},   {"output", AttributeKind::list},            {"secret", AttributeKind::list},
    {"ulimits", AttributeKind::list},     {"entitlements", AttributeKind::list}, {"no-cache", AttributeKind::boolean},     {"pull", AttributeKind::boolean},
    {"inherits", AttributeKind::list},    {"extra-hosts", AttributeKind::map},  {"ssh", AttributeKind::list},
    {"attest", AttributeKind::list},      {"annotations", AttributeKind::list}, {"no-cache-filter", AttributeKind::list}, {"call", AttributeKind::text},
};
/// BuildKit's own, which our builder has no part for: a file that asks for them is told, not half obeyed.
constexpr std::string_view unsupported_attributes[] = {"policy"};

const KnownAttribute* find_attribute(std::string_view name) {
  for (const auto& known : known_attributes)
    if (known.name == name) return &known;
  return nullptr;
}

/// Attributes by name, worked out.
using Values = std::map<std::string, json::value>;

class Planner {
 public:
  explicit Planner(const Request& request) : request_(request) {}

  Result<Plan> plan() {
    TRY_PLAIN(read_all());
    Plan out;
    auto wanted = request_.wanted.empty() ? std::vector<std::string>{"default"} : request_.wanted;
    std::vector<std::string> names;
    for (const auto& name : wanted) {
      std::vector<std::string> own;
      std::set<std::string> seen;
      TRY_PLAIN(flatten(name, own, seen));
      for (const auto& target : own)
        if (std::find(names.begin(), names.end(), target) == names.end()) names.push_back(target);
    }
    out.groups["default"] = names;
    std::set<std::string> done;
    std::vector<std::string> path;
    for (const auto& name : names) TRY_PLAIN(add(name, out, done, path));
    return out;
  }

  Result<Contents> contents() {
    TRY_PLAIN(read_all());
    Contents out;
    for (const auto& [name, values] : targets_) {
      std::vector<std::string> inheritance;
      const auto all = TRY_PLAIN(resolved(name, inheritance));
      auto described = all.find("description");
      out.targets.push_back({name, described == all.end() ? "" : TRY(text_of(described->second), concat("target ", name, ": description")), false});
    }
    for (const auto& [name, members] : groups_) {
      if (targets_.contains(name)) continue;  // compose: a service may be called as the group
      auto described = group_descriptions_.find(name);
      out.targets.push_back({name, described == group_descriptions_.end() ? join(members, ", ") : described->second, true});
    }
    std::sort(out.targets.begin(), out.targets.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    for (const auto& [name, known] : variables_) {
      Contents::Variable one{name, TRY_PLAIN(variable(name)), ""};
      if (known.block != nullptr)
        if (const auto* described = attribute_of(*known.block, "description")) one.description = TRY_PLAIN(text_of(TRY_PLAIN(evaluate_in(known.file, *described->value))));
      out.variables.push_back(std::move(one));
    }
    return out;
  }

 private:
  Status read_all() {
    for (const auto& file : request_.files) TRY_PLAIN(read(file));
    for (const auto& text : request_.overrides) TRY_PLAIN(read_override(text));
    TRY_PLAIN(check_variables());
    for (const auto& [file, block] : target_blocks_) TRY_PLAIN(expand(file, *block));
    return {};
  }

  static const Attribute* attribute_of(const Block& block, std::string_view name) {
    for (const auto& attribute : block.body.attributes)
      if (attribute.name == name) return &attribute;
    return nullptr;
  }

  static Error at(const std::string& file, std::uint32_t line, std::string_view what) { return {ErrorKind::invalid, concat(file, ":", line, ": ", what)}; }
  static Error in_file(const std::string& file, const Error& error) {
    auto text = error.text();
    if (text.starts_with("line ")) text = concat(file, ":", text.substr(5));
    return {error.kind(), text};
  }

  // -- reading

  Status read(const File& file) {
    if (file.name.ends_with(".yaml") || file.name.ends_with(".yml")) return read_compose(file);
    auto body = file.name.ends_with(".json") ? parse_hcl_json(file.text, file.name, {"target", "group", "variable", "function"}) : parse_hcl(file.text, file.name);
    bodies_.push_back(std::make_unique<Body>(TRY_PLAIN(std::move(body))));
    for (const auto& attribute : bodies_.back()->attributes) variables_[attribute.name] = {file.name, attribute.value.get(), nullptr, attribute.line};
    for (const auto& block : bodies_.back()->blocks) TRY_PLAIN(read_block(file.name, block));
    return {};
  }

  Status read_block(const std::string& file, const Block& block) {
    if (block.type != "target" && block.type != "group" && block.type != "variable" && block.type != "function")
      return at(file, block.line, concat("unknown block ", block.type, " (known: ", known_blocks_text, ")"));
    if (block.labels.size() != 1) return at(file, block.line, concat(block.type, " wants one name"));
    const auto& name = block.labels[0];
    if (block.type == "target") {
      target_blocks_.emplace_back(file, &block);
      return {};
    }
    if (block.type == "variable") {
      const auto* by_default = attribute_of(block, "default");
      variables_[name] = {file, by_default == nullptr ? nullptr : by_default->value.get(), &block, block.line};
      return {};
    }
    if (block.type == "function") {
      const auto* result = attribute_of(block, "result");
      if (result == nullptr) return at(file, block.line, concat("function ", name, " has no result"));
      Function function;
      function.result = result->value.get();
      const auto* parameters = attribute_of(block, "params");
      if (parameters != nullptr) function.parameters = TRY_PLAIN(names_in(file, *parameters));
      if (const auto* variadic = attribute_of(block, "variadic_params")) function.variadic = variadic->value->kind == ExpressionKind::variable ? variadic->value->name : TRY_PLAIN(constant_text(file, *variadic));
      functions_[name] = std::move(function);
      return {};
    }
    const auto* targets = attribute_of(block, "targets");
    if (targets == nullptr) return at(file, block.line, concat("group ", name, " has no targets"));
    auto value = TRY_PLAIN(evaluate_in(file, *targets->value));
    groups_[name] = TRY_PLAIN(texts(value, concat(file, ":", targets->line, ": targets")));
    if (const auto* described = attribute_of(block, "description")) group_descriptions_[name] = TRY_PLAIN(text_of(TRY_PLAIN(evaluate_in(file, *described->value))));
    return {};
  }

  /// Parameters are bare names in HCL, texts in JSON.
  Result<std::vector<std::string>> names_in(const std::string& file, const Attribute& attribute) const {
    std::vector<std::string> out;
    if (attribute.value->kind != ExpressionKind::list) return at(file, attribute.line, concat(attribute.name, " wants a list of names"));
    for (const auto& part : attribute.value->parts) {
      if (part->kind == ExpressionKind::variable) out.push_back(part->name);
      else if (part->kind == ExpressionKind::literal && part->value.is_string()) out.emplace_back(part->value.get_string());
      else return at(file, attribute.line, concat(attribute.name, " wants a list of names"));
    }
    return out;
  }
  static Result<std::string> constant_text(const std::string& file, const Attribute& attribute) {
    if (attribute.value->kind == ExpressionKind::literal && attribute.value->value.is_string()) return std::string(attribute.value->value.get_string());
    return at(file, attribute.line, concat(attribute.name, " wants a name"));
  }

  /// Services' `build` of a compose file.
  Status read_compose(const File& file) {
    auto document = TRY_PLAIN(parse_yaml(file.text, file.name));
    JsonView view(document, file.name);
    auto services = TRY_PLAIN(view.at("services"));
    if (!services.is_set()) return Error(ErrorKind::invalid, concat(file.name, ": has no services"));
    return services.for_each_member([&](std::string_view name, const JsonView& service) -> Status {
      auto build = TRY_PLAIN(service.at("build"));
      if (!build.is_set()) return {};
      Values values;
      std::string image;
      TRY_PLAIN(service.read("image", image));
      if (!image.empty()) values["tags"] = json::array{json::value(image)};
      if (build.raw().is_string()) {
        values["context"] = build.raw();
      } else {
        for (const auto& [theirs, ours] : {std::pair("context", "context"), std::pair("dockerfile", "dockerfile"), std::pair("dockerfile_inline", "dockerfile-inline"), std::pair("target", "target"),
                                           std::pair("network", "network"), std::pair("shm_size", "shm-size"), std::pair("args", "args"), std::pair("labels", "labels"), std::pair("cache_from", "cache-from"),
                                           std::pair("cache_to", "cache-to"), std::pair("platforms", "platforms"), std::pair("additional_contexts", "contexts"), std::pair("no_cache", "no-cache"), std::pair("pull", "pull"),
                                           std::pair("ssh", "ssh")})
          if (auto member = TRY_PLAIN(build.at(theirs)); member.is_set()) values[ours] = TRY_PLAIN(as_map_if_needed(ours, member));
        std::vector<std::string> tags;
        TRY_PLAIN(build.read("tags", tags));
        for (auto& tag : tags) {
          auto& all = values["tags"];
          if (!all.is_array()) all = json::array();
          all.get_array().push_back(json::value(tag));
        }
      }
      merge(targets_[std::string(name)], values);
      auto& all = groups_["default"];
      if (std::find(all.begin(), all.end(), name) == all.end()) all.emplace_back(name);
      return {};
    });
  }

  /// Compose has maps as lists of "KEY=value", too.
  static Result<json::value> as_map_if_needed(std::string_view name, const JsonView& member) {
    const auto* known = find_attribute(name);
    if (known == nullptr || known->kind != AttributeKind::map || !member.raw().is_array()) return member.raw();
    json::object out;
    for (const auto& item : member.raw().get_array()) {
      auto text = TRY_PLAIN(text_of(item));
      auto halves = split_once(text, '=');
      out[std::string(halves.before)] = halves.found ? json::value(std::string(halves.after)) : json::value(nullptr);
    }
    return json::value(std::move(out));
  }

  // -- variables

  struct Variable {
    std::string file;
    const Expression* by_default = nullptr;  ///< null: it has none
    const Block* block = nullptr;            ///< of a variable block: validations
    std::uint32_t line = 0;
  };

  Result<json::value> variable(const std::string& name) {
    if (auto known = worked_out_.find(name); known != worked_out_.end()) return known->second;
    auto found = variables_.find(name);
    if (found == variables_.end()) return Error(ErrorKind::invalid, concat("there is no variable ", name));
    if (!in_work_.insert(name).second) return Error(ErrorKind::invalid, concat("the variable ", name, " needs itself"));
    auto value = given_or_default(name, found->second);
    in_work_.erase(name);
    if (!value.ok()) return std::move(value).error();
    worked_out_[name] = *value;
    return value;
  }

  Result<json::value> given_or_default(const std::string& name, const Variable& variable) {
    json::value value;
    if (variable.by_default != nullptr) value = TRY_PLAIN(evaluate_in(variable.file, *variable.by_default));
    auto given = request_.environment ? request_.environment(name) : std::nullopt;
    if (!given) return value;
    // It takes the default's type.
    if (value.is_number()) {
      auto number = parse_json(*given, name);
      if (!number.ok() || !number->is_number()) return Error(ErrorKind::invalid, concat(name, " in the environment is \"", *given, "\", and must be a number"));
      return number;
    }
    if (value.is_bool()) {
      if (*given == "true" || *given == "1") return json::value(true);
      if (*given == "false" || *given == "0" || given->empty()) return json::value(false);
      return Error(ErrorKind::invalid, concat(name, " in the environment is \"", *given, "\", and must be true or false"));
    }
    if (value.is_array()) {
      json::array items;
      for (auto item : split(*given, ',')) items.push_back(json::value(std::string(item)));
      return json::value(std::move(items));
    }
    if (value.is_object()) return Error(ErrorKind::invalid, concat(name, " in the environment: an object cannot be given there"));
    return json::value(*given);
  }

  Status check_variables() {
    for (const auto& [name, variable] : variables_) {
      if (variable.block == nullptr) continue;
      for (const auto& check : variable.block->body.blocks) {
        if (check.type != "validation") return at(variable.file, check.line, concat("unknown block ", check.type, " in a variable"));
        std::string message = "is not valid";
        bool is_good = true;
        for (const auto& attribute : check.body.attributes) {
          auto value = TRY_PLAIN(evaluate_in(variable.file, *attribute.value));
          if (attribute.name == "condition") is_good = value.is_bool() && value.get_bool();
          else if (attribute.name == "error_message") message = TRY_PLAIN(text_of(value));
        }
        if (!is_good) return at(variable.file, check.line, concat("variable ", name, ": ", message));
      }
    }
    return {};
  }

  Result<json::value> evaluate_in(const std::string& file, const Expression& expression, const Values* more = nullptr) {
    Scope scope;
    scope.variable = [&](const std::string& name) -> Result<json::value> {
      if (more != nullptr)
        if (auto found = more->find(name); found != more->end()) return found->second;
      return variable(name);
    };
    scope.function = [&](const std::string& name) -> const Function* {
      auto found = functions_.find(name);
      return found == functions_.end() ? nullptr : &found->second;
    };
    auto value = evaluate(expression, scope);
    if (!value.ok()) return in_file(file, value.error());
    return value;
  }

  // -- targets

  static void merge(Values& into, const Values& from) {
    for (const auto& [name, value] : from) {
      auto& have = into[name];
      if (have.is_object() && value.is_object()) {
        for (const auto& member : value.get_object()) have.get_object()[member.key()] = member.value();
      } else {
        have = value;
      }
    }
  }

  /// One target, or one per combination of its matrix.
  Status expand(const std::string& file, const Block& block) {
    const Attribute* matrix = nullptr;
    const Attribute* name = nullptr;
    for (const auto& attribute : block.body.attributes) {
      if (attribute.name == "matrix") matrix = &attribute;
      if (attribute.name == "name") name = &attribute;
    }
    if (matrix == nullptr) {
      if (name != nullptr) return at(file, name->line, "name is for targets with a matrix");
      return read_target(file, block, block.labels[0], nullptr);
    }
    if (name == nullptr) return at(file, matrix->line, "a target with a matrix needs a name");
    auto axes = TRY_PLAIN(evaluate_in(file, *matrix->value));
    if (!axes.is_object()) return at(file, matrix->line, "matrix wants lists by name");
    std::vector<Values> combinations{{}};
    for (const auto& axis : axes.get_object()) {
      if (!axis.value().is_array()) return at(file, matrix->line, concat("matrix: ", std::string_view(axis.key()), " wants a list"));
      std::vector<Values> next;
      for (const auto& combination : combinations)
        for (const auto& item : axis.value().get_array()) {
          next.push_back(combination);
          next.back()[std::string(axis.key())] = item;
        }
      if (next.size() > most_targets) return at(file, matrix->line, concat("the matrix has more than ", most_targets, " targets"));
      combinations = std::move(next);
    }
    std::vector<std::string> members;
    for (const auto& combination : combinations) {
      auto own = TRY_PLAIN(text_of(TRY_PLAIN(evaluate_in(file, *name->value, &combination))));
      if (std::find(members.begin(), members.end(), own) != members.end()) return at(file, name->line, concat("two targets of the matrix are called ", own));
      TRY_PLAIN(read_target(file, block, own, &combination));
      members.push_back(own);
    }
    groups_[block.labels[0]] = std::move(members);
    return {};
  }

  Status read_target(const std::string& file, const Block& block, const std::string& name, const Values* more) {
    Values values;
    for (const auto& attribute : block.body.attributes) {
      if (attribute.name == "matrix" || attribute.name == "name") continue;
      if (std::find(std::begin(unsupported_attributes), std::end(unsupported_attributes), attribute.name) != std::end(unsupported_attributes))
        return Error(ErrorKind::unsupported, concat(file, ":", attribute.line, ": target ", name, ": ", attribute.name, " is not supported"));
      if (find_attribute(attribute.name) == nullptr) return at(file, attribute.line, concat("target ", name, ": unknown attribute ", attribute.name));
      auto value = TRY_PLAIN(evaluate_in(file, *attribute.value, more));
      if (!value.is_null()) values[attribute.name] = std::move(value);
    }
    if (!block.body.blocks.empty()) return at(file, block.body.blocks[0].line, concat("target ", name, ": unknown block ", block.body.blocks[0].type));
    merge(targets_[name], values);
    if (targets_.size() > most_targets) return at(file, block.line, concat("more than ", most_targets, " targets"));
    return {};
  }

  // -- overrides

  struct Override {
    std::string pattern;
    std::string attribute;
    std::string member;  ///< of a map
    std::string value;
    bool adds = false;
  };

  Status read_override(const std::string& text) {
    auto bad = [&](std::string_view why) { return Error(ErrorKind::invalid, concat("--set ", text, ": ", why)); };
    auto halves = split_once(text, '=');
    Override out;
    std::string path(halves.before);
    out.adds = path.ends_with('+');
    if (out.adds) path.pop_back();
    auto parts = split(path, '.');
    if (!halves.found || parts.size() < 2) return bad("want TARGET.ATTRIBUTE=VALUE");
    out.pattern = parts[0];
    out.attribute = parts[1];
    if (out.attribute == "platform") out.attribute = "platforms";
    if (out.attribute == "secrets") out.attribute = "secret";
    out.value = halves.after;
    for (std::size_t i = 2; i < parts.size(); ++i) out.member += concat(i > 2 ? "." : "", parts[i]);
    const auto* known = find_attribute(out.attribute);
    if (known == nullptr) return bad(concat("unknown attribute ", out.attribute));
    if ((known->kind == AttributeKind::map) != !out.member.empty()) return bad(known->kind == AttributeKind::map ? "want TARGET.ATTRIBUTE.KEY=VALUE" : "the attribute has no members");
    if (out.adds && known->kind != AttributeKind::list) return bad("only lists are added to");
    overrides_.push_back(std::move(out));
    return {};
  }

  static bool matches(std::string_view pattern, std::string_view name) {
    if (pattern.empty()) return name.empty();
    if (pattern[0] == '*') return matches(pattern.substr(1), name) || (!name.empty() && matches(pattern, name.substr(1)));
    return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) && matches(pattern.substr(1), name.substr(1));
  }

  void apply_overrides(const std::string& name, Values& values) const {
    std::set<std::string> replaced;
    for (const auto& one : overrides_) {
      if (!matches(one.pattern, name)) continue;
      auto& have = values[one.attribute];
      const auto kind = find_attribute(one.attribute)->kind;
      if (kind == AttributeKind::map) {
        if (!have.is_object()) have = json::object();
        have.get_object()[one.member] = one.value;
      } else if (kind == AttributeKind::list) {
        if (!have.is_array() || (!one.adds && replaced.insert(one.attribute).second)) have = json::array();
        have.get_array().push_back(json::value(one.value));
      } else {
        have = one.value;
      }
    }
  }

  // -- the plan

  Status flatten(const std::string& name, std::vector<std::string>& out, std::set<std::string>& seen) {
    if (auto group = groups_.find(name); group != groups_.end() && seen.insert(name).second) {
      for (const auto& member : group->second) {
        if (member == name && targets_.contains(name)) out.push_back(name);  // compose: a service may be called as the group
        else TRY_PLAIN(flatten(member, out, seen));
      }
      return {};
    }
    if (targets_.contains(name)) {
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
      return {};
    }
    if (groups_.contains(name)) return {};  // a group in itself
    return Error(ErrorKind::not_found, concat("there is no target ", name));
  }

  Result<Values> resolved(const std::string& name, std::vector<std::string>& path) {
    if (std::find(path.begin(), path.end(), name) != path.end()) return Error(ErrorKind::invalid, concat("target ", name, " inherits from itself: ", join(path, " → ")));
    auto found = targets_.find(name);
    if (found == targets_.end()) return Error(ErrorKind::not_found, concat("there is no target ", name, path.empty() ? "" : concat(", from which ", path.back(), " inherits")));
    path.push_back(name);
    Values out;
    if (auto parents = found->second.find("inherits"); parents != found->second.end())
      for (const auto& parent : TRY_PLAIN(texts(parents->second, concat("target ", name, ": inherits")))) merge(out, TRY_PLAIN(resolved(parent, path)));
    path.pop_back();
    merge(out, found->second);
    return out;
  }

  Status add(const std::string& name, Plan& plan, std::set<std::string>& done, std::vector<std::string>& path) {
    if (done.contains(name)) return {};
    if (std::find(path.begin(), path.end(), name) != path.end()) return Error(ErrorKind::invalid, concat("target ", name, " needs itself as a context"));
    std::vector<std::string> inheritance;
    auto values = TRY_PLAIN(resolved(name, inheritance));
    apply_overrides(name, values);
    auto target = TRY_PLAIN(target_of(name, values));
    path.push_back(name);
    for (const auto& [context, value] : target.contexts)
      if (value.starts_with("target:")) TRY_PLAIN(add(value.substr(std::string_view("target:").size()), plan, done, path));
    path.pop_back();
    done.insert(name);
    plan.targets.push_back(std::move(target));
    return {};
  }

  static Result<std::vector<std::string>> texts(const json::value& value, const std::string& what) {
    if (value.is_string()) return std::vector<std::string>{std::string(value.get_string())};
    if (!value.is_array()) return Error(ErrorKind::invalid, concat(what, ": want a list of texts"));
    std::vector<std::string> out;
    for (const auto& item : value.get_array()) {
      // Newer files write caches, outputs, secrets and agents as objects.
      if (item.is_object()) {
        std::vector<std::string> fields;
        for (const auto& member : item.get_object()) fields.push_back(concat(std::string_view(member.key()), "=", TRY(text_of(member.value()), what)));
        out.push_back(join(fields, ","));
      } else if (!item.is_null()) {
        auto text = TRY(text_of(item), what);
        if (!text.empty()) out.push_back(std::move(text));
      }
    }
    return out;
  }

  /// Agents: "ID" and "ID=PATH,PATH", objects with `id` and `paths`, or (compose) one object of paths by id.
  static Result<std::vector<std::string>> agents_of(const json::value& value, const std::string& what) {
    std::vector<std::string> out;
    auto add = [&](std::string id, const json::value& paths) -> Status {
      auto list = paths.is_null() ? std::vector<std::string>() : TRY_PLAIN(texts(paths, what));
      out.push_back(list.empty() ? std::move(id) : concat(id, "=", join(list, ",")));
      return {};
    };
    if (value.is_object()) {
      for (const auto& member : value.get_object()) TRY_PLAIN(add(std::string(member.key()), member.value()));
      return out;
    }
    if (!value.is_array()) return texts(value, what);
    for (const auto& item : value.get_array()) {
      if (!item.is_object()) {
        for (auto& text : TRY_PLAIN(texts(json::array{item}, what))) out.push_back(std::move(text));
        continue;
      }
      const JsonView agent(item, what);
      std::string id;
      TRY_PLAIN(agent.read("id", id));
      const auto paths = TRY_PLAIN(agent.at("paths"));
      TRY_PLAIN(add(std::move(id), paths.is_set() ? paths.raw() : json::value()));
    }
    return out;
  }

  static Result<std::map<std::string, std::string>> map_of(const json::value& value, const std::string& what) {
    if (!value.is_object()) return Error(ErrorKind::invalid, concat(what, ": want texts by name"));
    std::map<std::string, std::string> out;
    for (const auto& member : value.get_object())
      if (!member.value().is_null()) out[std::string(member.key())] = TRY(text_of(member.value()), concat(what, ".", std::string_view(member.key())));
    return out;
  }

  static Result<Target> target_of(const std::string& name, const Values& values) {
    Target out;
    out.name = name;
    for (const auto& [key, value] : values) {
      const auto what = concat("target ", name, ": ", key);
      for (auto& [text_name, text] : {std::pair<std::string_view, std::string*>("context", &out.context), {"dockerfile", &out.dockerfile}, {"dockerfile-inline", &out.dockerfile_inline},
                                      {"target", &out.target}, {"call", &out.call}, {"network", &out.network}, {"shm-size", &out.shm_size}})
        if (text_name == key) *text = TRY(text_of(value), what);
      for (auto& [list_name, list] : {std::pair<std::string_view, std::vector<std::string>*>("tags", &out.tags), {"platforms", &out.platforms}, {"cache-from", &out.cache_from}, {"cache-to", &out.cache_to},
                                      {"output", &out.outputs}, {"secret", &out.secrets}, {"attest", &out.attestations}, {"annotations", &out.annotations}, {"no-cache-filter", &out.no_cache_stages}, {"ulimits", &out.ulimits}, {"entitlements", &out.entitlements}})
        if (list_name == key) *list = TRY_PLAIN(texts(value, what));
      for (auto& [map_name, map] : {std::pair<std::string_view, std::map<std::string, std::string>*>("contexts", &out.contexts), {"args", &out.arguments}, {"labels", &out.labels}})
        if (map_name == key) *map = TRY_PLAIN(map_of(value, what));
      if (key == "ssh") out.ssh = TRY_PLAIN(agents_of(value, what));
      if (key == "extra-hosts")
        for (const auto& [host, address] : TRY_PLAIN(map_of(value, what))) out.extra_hosts.push_back(concat(host, ":", address));
      if (key == "no-cache" || key == "pull") {
        auto text = TRY(text_of(value), what);
        if (text != "true" && text != "false" && text != "1" && text != "0") return Error(ErrorKind::invalid, concat(what, ": want true or false"));
        (key == "pull" ? out.pull : out.no_cache) = text == "true" || text == "1";
      }
    }
    return out;
  }

  const Request& request_;
  std::vector<std::unique_ptr<Body>> bodies_;  ///< what the expressions below lie in
  std::vector<std::pair<std::string, const Block*>> target_blocks_;
  std::map<std::string, Variable> variables_;
  std::map<std::string, json::value> worked_out_;
  std::set<std::string> in_work_;
  std::map<std::string, Function> functions_;
  std::map<std::string, std::vector<std::string>> groups_;
  std::map<std::string, std::string> group_descriptions_;
  std::map<std::string, Values> targets_;
  std::vector<Override> overrides_;
};

json::array to_array(const std::vector<std::string>& texts) {
  json::array out;
  for (const auto& text : texts) out.push_back(json::value(text));
  return out;
}
json::object to_object(const std::map<std::string, std::string>& texts) {
  json::object out;
  for (const auto& [key, text] : texts) out[key] = text;
  return out;
}

}  // namespace

Result<Plan> plan(const Request& request) { return Planner(request).plan(); }

Result<Contents> contents(const Request& request) { return Planner(request).contents(); }

json::object plan_json(const Plan& plan) {
  json::object groups;
  for (const auto& [name, members] : plan.groups) groups[name] = json::object{{"targets", to_array(members)}};
  json::object targets;
  for (const auto& target : plan.targets) {
    json::object out{{"context", target.context}, {"dockerfile", target.dockerfile.empty() ? "Dockerfile" : target.dockerfile}};
    for (const auto& [key, text] : {std::pair("dockerfile-inline", &target.dockerfile_inline), std::pair("target", &target.target), std::pair("call", &target.call), std::pair("network", &target.network), std::pair("shm-size", &target.shm_size)})
      if (!text->empty()) out[key] = *text;
    for (const auto& [key, map] : {std::pair("contexts", &target.contexts), std::pair("args", &target.arguments), std::pair("labels", &target.labels)})
      if (!map->empty()) out[key] = to_object(*map);
    for (const auto& [key, list] : {std::pair("tags", &target.tags), std::pair("platforms", &target.platforms), std::pair("cache-from", &target.cache_from), std::pair("cache-to", &target.cache_to),
                                    std::pair("output", &target.outputs), std::pair("secret", &target.secrets), std::pair("ssh", &target.ssh), std::pair("attest", &target.attestations), std::pair("annotations", &target.annotations), std::pair("no-cache-filter", &target.no_cache_stages), std::pair("ulimits", &target.ulimits), std::pair("entitlements", &target.entitlements),
                                    std::pair("extra-hosts", &target.extra_hosts)})
      if (!list->empty()) out[key] = to_array(*list);
    if (target.no_cache) out["no-cache"] = true;
    if (target.pull) out["pull"] = true;
    targets[target.name] = std::move(out);
  }
  return {{"group", std::move(groups)}, {"target", std::move(targets)}};
}

}  // namespace caisson::bake
