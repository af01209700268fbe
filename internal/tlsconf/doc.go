// Package tlsconf turns PEM files into TLS configurations for servers and clients, with mutual authentication, and
// reads the files again when they change: a broken new file leaves the old certificate in use, and connections that
// are open stay as they are.
package tlsconf
