package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A reload says what was lost, not what it hopes: the kernel counts, for each
// listening socket, the connections that found no room in its queue.

// drops is that count by address, for the sockets of services that are to be
// reloaded. What cannot be asked now is told by the reload itself.
func (s *session) drops(ctx context.Context, v unit.Verb, names []string) map[string]uint64 {
	if v != unit.Reload {
		return nil
	}
	st, err := s.client().Status(ctx, names...)
	if err != nil {
		return nil
	}
	counts := map[string]uint64{}
	for _, x := range st.Sockets {
		for _, y := range x.Sockets {
			counts[y.Address] = y.Drops
		}
	}
	return counts
}

// tellLosses notes the sockets that have dropped more than before.
func (s *session) tellLosses(before, after map[string]uint64) {
	for _, address := range slices.Sorted(maps.Keys(after)) {
		was, known := before[address]
		if n := after[address]; known && n > was {
			s.note(fmt.Sprintf("%s dropped %s meanwhile: its queue was full", address, count(int(n-was), "connection")))
		}
	}
}
