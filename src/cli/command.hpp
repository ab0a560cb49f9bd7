// The data that describes every command and flag: parsing, help, completion and man pages all read this table.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.hpp"

namespace caisson::cli {

class Invocation;
class Session;

/// What a flag's value is; the parser refuses everything else, in docker's words.
enum class FlagType : std::uint8_t {
  boolean,
  text,
  list,        ///< may be repeated
  integer,     ///< 64 bits, signed
  uint16,
  decimal,     ///< "1.5" processors
  bytes,       ///< "64m"
  swap_bytes,  ///< the same, or -1
  duration,    ///< "1m30s"
};

/// What the shell may offer after a word; also what a completion asks the daemon for.
enum class Words : std::uint8_t { none, files, containers, running, paused, stopped, images, volumes, networks, contexts, log_drivers, shells, commands };

struct Flag {
  std::string_view name;
  char letter = 0;
  FlagType type = FlagType::boolean;
  std::string_view value_name;   ///< as help shows it: "list", "bytes"
  std::string_view help;
  std::string_view default_text; ///< what an absent flag means, as help shows it; "" shows nothing
  Words words = Words::none;
  bool hidden = false;           ///< accepted, but not shown: deprecated spellings
  std::string_view same_as;      ///< another flag's name: this one is a second spelling of it
  /// What the shell offers as its value, separated by blanks; one that ends with "=" or ":" is only begun by it.
  std::string_view choices;
  /// Set: the value may be left out, and means this then; one that is given is behind "=".
  std::string_view bare_value;
  /// Docker has it and we do not: why, and what to do instead. It is said when the flag is given (switched off, it asks for nothing).
  std::string_view refusal;
};

/// How many words a command takes after its flags. `most` < 0: any number.
struct Arity {
  int least = 0;
  int most = 0;
};

struct Command {
  std::string_view path;     ///< "run", "volume create"
  std::string_view aliases;  ///< further paths, separated by ", "
  std::string_view usage;    ///< what follows the path: "[OPTIONS] IMAGE [COMMAND] [ARG...]"
  std::string_view summary;
  Arity arity;
  bool interspersed = true;  ///< false: flags end at the first word (run's image, exec's container)
  std::span<const Flag> flags;
  Words words = Words::none;
  /// Does the work. The value is the exit code. Errors: printed by the caller, which also chooses 1 or 125 (`error_code`).
  Result<int> (*run)(Session& session, const Invocation& invocation) = nullptr;
  int error_code = 1;        ///< exit code for an error of ours or of the daemon; run: 125
  std::string_view details;  ///< a paragraph for help, or ""
  bool is_group = false;     ///< "volume": only holds further commands
  bool is_common = false;    ///< listed first in the overview
  bool hidden = false;
  bool raw_words = false;    ///< takes every word as it is, flags and help too
  std::string_view refusal;  ///< docker has it and we do not: why, and what to do instead; nothing is run then
};

/// All commands, in the order help shows them.
std::span<const Command> all_commands();
/// Flags that stand before the command.
std::span<const Flag> global_flags();

/// The command of that path or alias, or nullptr.
const Command* find_command(std::string_view path);
/// The flag of that name or letter, or nullptr. Second spellings are resolved to their flag.
const Flag* find_flag(std::span<const Flag> flags, std::string_view name);
const Flag* find_flag(std::span<const Flag> flags, char letter);

}  // namespace caisson::cli
