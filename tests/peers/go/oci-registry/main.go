// A registry in memory, as pkg/registry of go-containerregistry makes it for cmd/registry, here with the referrers API on or off and with TLS.
//
//	oci-registry -certificate FILE -key FILE [-referrers=false]
//
// It listens on a free port of the loopback and prints that port, one line, when it does.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	referrers := flag.Bool("referrers", true, "answer the referrers API")
	flag.Parse()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	quiet := log.New(io.Discard, "", 0)
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler:           registry.New(registry.WithReferrersSupport(*referrers), registry.Logger(quiet)),
		ErrorLog:          quiet,
	}
	log.Fatal(server.ServeTLS(listener, *certificate, *key))
}
