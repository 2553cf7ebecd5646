package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An instant is a flag's value: a time, or how long ago.
type instant struct{ time.Time }

// now is replaced in tests.
var now = time.Now

func (m *instant) Type() string { return "time" }

func (m *instant) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}

// layouts are the ways to write one, the most exact first. What has no zone is local.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// clocks are those of today.
var clocks = []string{"15:04:05", "15:04"}

func (m *instant) Set(text string) (err error) {
	m.Time, err = parseInstant(text, now())
	return err
}

func parseInstant(text string, now time.Time) (time.Time, error) {
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	for _, layout := range clocks {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location()), nil
		}
	}
	switch text {
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	if d, ok := ago(text); ok {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf(`%q is not a time: use one like "2006-01-02 15:04", "15:04" or "yesterday", or how long ago, like "1h" or "2d"`, text)
}

// ago reads "1h", "90s", "1h30m", "2d", "1w", also with "ago" behind or a minus before.
func ago(text string) (time.Duration, bool) {
	text = strings.TrimPrefix(strings.TrimSpace(strings.TrimSuffix(text, "ago")), "-")
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			return time.Duration(n) * unit, err == nil
		}
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}
