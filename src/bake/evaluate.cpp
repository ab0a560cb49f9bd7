// A walk over the tree, with a budget: a small file must not be able to ask for endless work.
#include "bake/evaluate.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "bake/functions.hpp"
#include "base/strings.hpp"

namespace caisson::bake {

namespace {

constexpr std::size_t most_steps = 1'000'000;
constexpr std::size_t most_text_bytes = 16U << 20U;
constexpr int most_calls_deep = 64;

class Evaluator {
 public:
  explicit Evaluator(const Scope& scope) : scope_(scope) {}

  Result<json::value> value(const Expression& of) {
    if (++steps_ > most_steps) return at(of, Error(ErrorKind::invalid, "too much work"));
    switch (of.kind) {
      case ExpressionKind::literal: return of.value;
      case ExpressionKind::variable: return variable(of);
      case ExpressionKind::template_: return template_text(of);
      case ExpressionKind::list: return list(of);
      case ExpressionKind::object: return object(of);
      case ExpressionKind::call: return call(of);
      case ExpressionKind::unary: return unary(of);
      case ExpressionKind::binary: return binary(of);
      case ExpressionKind::conditional: {
        auto condition = at(of, bool_of(TRY_PLAIN(value(*of.parts[0]))));
        return value(*of.parts[TRY_PLAIN(std::move(condition)) ? 1 : 2]);
      }
      case ExpressionKind::attribute: {
        auto from = TRY_PLAIN(value(*of.parts[0]));
        return member(of, from, json::value(of.name));
      }
      case ExpressionKind::index: {
        auto from = TRY_PLAIN(value(*of.parts[0]));
        return member(of, from, TRY_PLAIN(value(*of.parts[1])));
      }
      case ExpressionKind::splat: return splat(of);
      case ExpressionKind::for_list:
      case ExpressionKind::for_object: return loop(of);
    }
    return Error(ErrorKind::internal, "an expression of no known kind");
  }

 private:
  template <typename T>
  static Result<T> at(const Expression& of, Result<T> result) {
    if (result.ok()) return result;
    return at(of, std::move(result).error());
  }
  static Error at(const Expression& of, const Error& error) {
    if (error.text().starts_with("line ")) return error;
    return {error.kind(), concat("line ", of.line, ": ", error.text())};
  }

  Result<json::value> variable(const Expression& of) {
    for (auto local = locals_.rbegin(); local != locals_.rend(); ++local)
      if (local->first == of.name) return local->second;
    return at(of, scope_.variable(of.name));
  }

  Result<json::value> template_text(const Expression& of) {
    if (of.parts.size() == 1) return value(*of.parts[0]);
    std::string out;
    for (const auto& part : of.parts) {
      out += TRY_PLAIN(at(of, text_of(TRY_PLAIN(value(*part)))));
      if (out.size() > most_text_bytes) return at(of, Error(ErrorKind::invalid, "the text becomes too long"));
    }
    return json::value(std::move(out));
  }

  Result<json::value> list(const Expression& of) {
    json::array out;
    for (const auto& part : of.parts) out.push_back(TRY_PLAIN(value(*part)));
    return json::value(std::move(out));
  }

  Result<json::value> object(const Expression& of) {
    json::object out;
    for (std::size_t i = 0; i < of.keys.size(); ++i) {
      auto key = TRY_PLAIN(at(of, text_of(TRY_PLAIN(value(*of.keys[i])))));
      out[key] = TRY_PLAIN(value(*of.parts[i]));
    }
    return json::value(std::move(out));
  }

  Result<json::value> unary(const Expression& of) {
    auto operand = TRY_PLAIN(value(*of.parts[0]));
    if (of.name == "!") return json::value(!TRY_PLAIN(at(of, bool_of(operand))));
    return number(-TRY_PLAIN(at(of, number_of(operand))));
  }

  Result<json::value> binary(const Expression& of) {
    auto left = TRY_PLAIN(value(*of.parts[0]));
    if (of.name == "&&" || of.name == "||") {
      const bool is_true = TRY_PLAIN(at(of, bool_of(left)));
      if (is_true == (of.name == "||")) return json::value(is_true);
      return json::value(TRY_PLAIN(at(of, bool_of(TRY_PLAIN(value(*of.parts[1]))))));
    }
    auto right = TRY_PLAIN(value(*of.parts[1]));
    if (of.name == "==") return json::value(equal(left, right));
    if (of.name == "!=") return json::value(!equal(left, right));
    const double a = TRY_PLAIN(at(of, number_of(left)));
    const double b = TRY_PLAIN(at(of, number_of(right)));
    if (of.name == "<") return json::value(a < b);
    if (of.name == ">") return json::value(a > b);
    if (of.name == "<=") return json::value(a <= b);
    if (of.name == ">=") return json::value(a >= b);
    if (of.name == "+") return number(a + b);
    if (of.name == "-") return number(a - b);
    if (of.name == "*") return number(a * b);
    if (b == 0) return at(of, Error(ErrorKind::invalid, "division by zero"));
    return number(of.name == "/" ? a / b : std::fmod(a, b));
  }

  Result<json::value> member(const Expression& of, const json::value& from, const json::value& key) {
    if (from.is_array()) {
      const double wanted = TRY_PLAIN(at(of, number_of(key)));
      const auto& items = from.get_array();
      if (wanted < 0 || wanted >= static_cast<double>(items.size()) || wanted != std::floor(wanted))
        return at(of, Error(ErrorKind::invalid, concat("the list has ", items.size(), " elements, and number ", TRY_PLAIN(text_of(key)), " was asked for")));
      return items[static_cast<std::size_t>(wanted)];
    }
    auto name = TRY_PLAIN(at(of, text_of(key)));
    if (!from.is_object()) return at(of, Error(ErrorKind::invalid, concat("what has the attribute ", name, " must be an object")));
    const auto* found = from.get_object().if_contains(name);
    if (found == nullptr) return at(of, Error(ErrorKind::invalid, concat("there is no attribute ", name)));
    return *found;
  }

  Result<json::value> splat(const Expression& of) {
    auto from = TRY_PLAIN(value(*of.parts[0]));
    json::array items;
    if (from.is_array()) items = std::move(from.get_array());
    else if (!from.is_null()) items.push_back(std::move(from));
    json::array out;
    for (auto& item : items) {
      locals_.emplace_back("", std::move(item));
      auto one = value(*of.parts[1]);
      locals_.pop_back();
      out.push_back(TRY_PLAIN(std::move(one)));
    }
    return json::value(std::move(out));
  }

  Result<json::value> loop(const Expression& of) {
    auto from = TRY_PLAIN(value(*of.parts[0]));
    std::vector<std::pair<json::value, json::value>> items;
    if (from.is_array()) {
      for (auto& item : from.get_array()) items.emplace_back(items.size(), std::move(item));
    } else if (from.is_object()) {
      for (auto& item : from.get_object()) items.emplace_back(json::value(item.key()), std::move(item.value()));
    } else {
      return at(of, Error(ErrorKind::invalid, "for wants a list or an object"));
    }
    json::array list;
    json::object object;
    for (auto& [key, item] : items) {
      const auto depth = locals_.size();
      if (!of.key_name.empty()) locals_.emplace_back(of.key_name, std::move(key));
      locals_.emplace_back(of.name, std::move(item));
      auto done = turn(of, list, object);
      locals_.resize(depth);
      TRY_PLAIN(std::move(done));
    }
    return of.kind == ExpressionKind::for_list ? json::value(std::move(list)) : json::value(std::move(object));
  }

  Status turn(const Expression& of, json::array& list, json::object& object) {
    const auto& condition = of.parts[2];
    if (condition && !TRY_PLAIN(at(of, bool_of(TRY_PLAIN(value(*condition)))))) return {};
    auto item = TRY_PLAIN(value(*of.parts[1]));
    if (of.kind == ExpressionKind::for_list) {
      list.push_back(std::move(item));
      return {};
    }
    auto key = TRY_PLAIN(at(of, text_of(TRY_PLAIN(value(*of.keys[0])))));
    if (of.spread) {
      auto& collected = object[key];
      if (!collected.is_array()) collected = json::array();
      collected.get_array().push_back(std::move(item));
    } else if (!object.emplace(key, std::move(item)).second) {
      return at(of, Error(ErrorKind::invalid, concat("the key ", key, " comes twice; '...' behind the value would collect them")));
    }
    return {};
  }

  Result<json::value> call(const Expression& of) {
    std::vector<json::value> arguments;
    for (const auto& part : of.parts) arguments.push_back(TRY_PLAIN(value(*part)));
    if (of.spread) {
      auto last = std::move(arguments.back());
      arguments.pop_back();
      if (!last.is_array()) return at(of, Error(ErrorKind::invalid, concat(of.name, ": what '...' stands behind must be a list")));
      for (auto& item : last.get_array()) arguments.push_back(std::move(item));
    }
    if (const auto* own = scope_.function ? scope_.function(of.name) : nullptr; own != nullptr) return call_own(of, *own, std::move(arguments));
    const auto* builtin = find_builtin(of.name);
    if (builtin == nullptr) return at(of, Error(ErrorKind::invalid, concat("there is no function ", of.name)));
    if (arguments.size() < builtin->least || arguments.size() > builtin->most) return at(of, Error(ErrorKind::invalid, concat(of.name, ": ", arguments.size(), " arguments are too ", arguments.size() < builtin->least ? "few" : "many")));
    auto result = builtin->call(arguments);
    if (!result.ok()) return at(of, Error(result.error().kind(), concat(of.name, ": ", result.error().text())));
    return result;
  }

  Result<json::value> call_own(const Expression& of, const Function& function, std::vector<json::value> arguments) {
    if (arguments.size() < function.parameters.size() || (function.variadic.empty() && arguments.size() > function.parameters.size()))
      return at(of, Error(ErrorKind::invalid, concat(of.name, ": wants ", function.parameters.size(), " arguments and got ", arguments.size())));
    if (calls_ == most_calls_deep) return at(of, Error(ErrorKind::invalid, concat(of.name, ": calls itself too deeply")));
    std::vector<std::pair<std::string, json::value>> own;
    for (std::size_t i = 0; i < function.parameters.size(); ++i) own.emplace_back(function.parameters[i], std::move(arguments[i]));
    if (!function.variadic.empty()) own.emplace_back(function.variadic, json::array(arguments.begin() + static_cast<std::ptrdiff_t>(function.parameters.size()), arguments.end()));
    // A function sees its parameters and the file's variables, not the caller's.
    std::swap(own, locals_);
    ++calls_;
    auto result = value(*function.result);
    --calls_;
    std::swap(own, locals_);
    return result;
  }

  const Scope& scope_;
  std::vector<std::pair<std::string, json::value>> locals_;
  std::size_t steps_ = 0;
  int calls_ = 0;
};

}  // namespace

Result<json::value> evaluate(const Expression& expression, const Scope& scope) { return Evaluator(scope).value(expression); }

Result<std::string> text_of(const json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_bool()) return std::string(value.get_bool() ? "true" : "false");
  if (value.is_int64()) return concat(value.get_int64());
  if (value.is_uint64()) return concat(value.get_uint64());
  if (value.is_double()) {
    std::array<char, 64> buffer{};
    return std::string(buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value.get_double()).ptr);
  }
  return Error(ErrorKind::invalid, concat("a ", value.is_null() ? "null" : value.is_array() ? "list" : "object", " is no text"));
}

}  // namespace caisson::bake
