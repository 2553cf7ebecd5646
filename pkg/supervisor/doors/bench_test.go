package doors

import (
	"fmt"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What it costs that each of many services opens its door, and that one service
// opens one of many.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{100, 1000} {
		var doors []unit.Door
		for i := range n {
			name := fmt.Sprint("n", i)
			doors = append(doors, unit.Door{Socket: &unit.Socket{Name: name, Listen: []unit.Address{{Network: "unix", Path: "@doors-" + name}}, Backlog: 8, WhenDown: unit.Refuse}})
		}
		b.Run(fmt.Sprint("services/", n), func(b *testing.B) {
			table := socket.NewTable(nil)
			defer table.Close()
			d := New(table, func(name string, err error) { b.Error(name, err) })
			for b.Loop() {
				for i := range doors {
					d.Set(doors[i].Socket.Name, []unit.Door{{Socket: doors[i].Socket, Open: true}})
				}
				for i := range doors {
					d.Set(doors[i].Socket.Name, nil)
				}
			}
		})
		b.Run(fmt.Sprint("instances/", n), func(b *testing.B) {
			table := socket.NewTable(nil)
			defer table.Close()
			d := New(table, func(name string, err error) { b.Error(name, err) })
			d.Set("api", doors)
			for i := 0; b.Loop(); i++ {
				now := append([]unit.Door(nil), doors...)
				now[0].Open = i%2 == 0
				d.Set("api", now)
			}
		})
	}
}
