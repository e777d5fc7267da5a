// A client in Go: exports.go PORT. An export runs in a goroutine of its own, and forgets its connection.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

// What is forgotten must not be found by the collector, whose finalizer would close it.
var forgotten = make(chan net.Conn, 1000)

func dial(address string) net.Conn {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	return conn
}

func ask(conn net.Conn, asked string) {
	if _, err := conn.Write([]byte(asked)); err != nil {
		panic(err)
	}
	if _, err := conn.Read(make([]byte, 16)); err != nil {
		panic(err)
	}
}

func sayLeaked(conn net.Conn) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		panic(err)
	}
	raw.Control(func(fd uintptr) { fmt.Println("leaked", os.Getpid(), fd) })
}

func exportInvoices(address string) {
	conn, err := net.Dial("tcp", address) // opener: main.exportInvoices
	if err != nil {
		panic(err)
	}
	conn.Write([]byte("invoices\n")) // last use: main.exportInvoices
	conn.Read(make([]byte, 16))
	sayLeaked(conn)
	forgotten <- conn
}

func exportOrders(address string) {
	conn := dial(address)
	ask(conn, "orders\n")
	conn.Close()
}

func scheduleInvoices(address string) {
	go exportInvoices(address) // created: main.scheduleInvoices
}

func main() {
	address := "127.0.0.1:" + os.Args[1]
	fmt.Println(os.Getpid())
	for round := 0; ; round++ {
		if round%3 == 1 {
			go exportOrders(address)
		}
		if round%5 == 0 {
			scheduleInvoices(address)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
