package taskhost

import (
	"context"
	"log/slog"
	"strings"

	"taskhost.dev/taskhost/internal/host"
)

// LogHandler writes the lines of package log/slog to the worker's log, where they have their level and the id and name of
// the task. Within a host slog's default logger has it, so slog.Info(..) and log.Print(..) need nothing else; what is
// printed to stdout and stderr is logged as well.
type LogHandler struct {
	// Level is the lowest that is written; nil is slog.LevelInfo.
	Level slog.Leveler

	attributes string
	group      string
}

// Enabled is true for a level that is written.
func (h *LogHandler) Enabled(_ context.Context, level slog.Level) bool {
	least := slog.LevelInfo
	if h.Level != nil {
		least = h.Level.Level()
	}
	return level >= least
}

// Handle writes a line. The worker knows the time.
func (h *LogHandler) Handle(_ context.Context, record slog.Record) error {
	var line strings.Builder
	line.WriteString(record.Message)
	line.WriteString(h.attributes)
	record.Attrs(func(attribute slog.Attr) bool {
		write(&line, h.group, attribute)
		return true
	})
	level := host.Debug
	switch {
	case record.Level >= slog.LevelError:
		level = host.Error
	case record.Level >= slog.LevelWarn:
		level = host.Warn
	case record.Level >= slog.LevelInfo:
		level = host.Info
	}
	host.Log(level, "", line.String())
	return nil
}

// WithAttrs is the handler with attributes in every line.
func (h *LogHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	copied := *h
	var text strings.Builder
	for _, attribute := range attributes {
		write(&text, h.group, attribute)
	}
	copied.attributes += text.String()
	return &copied
}

// WithGroup is the handler with a name before those of further attributes.
func (h *LogHandler) WithGroup(name string) slog.Handler {
	copied := *h
	if name != "" {
		copied.group += name + "."
	}
	return &copied
}

func write(line *strings.Builder, group string, attribute slog.Attr) {
	value := attribute.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if attribute.Key != "" {
			group += attribute.Key + "."
		}
		for _, member := range value.Group() {
			write(line, group, member)
		}
		return
	}
	if attribute.Equal(slog.Attr{}) {
		return
	}
	text := value.String()
	if text == "" || strings.ContainsAny(text, " =\"\n\t") {
		text = quote(text)
	}
	line.WriteString(" " + group + attribute.Key + "=" + text)
}
