//! Misbehaving clients: they disconnect early, stop reading, flood and send invalid data.
//! Afterwards the hub has removed them and serves new clients.
//!
//! Most tests run against a hub in this process. Tests about memory run against the real binary and
//! compare its resident memory before and after many rounds (`memory`). The table lists known
//! attacks on such servers and the tests that cover them:
//!
//! | attack | tests |
//! |---|---|
//! | weak ids, guessing of session ids | `http_abuse::session_ids_are_random…`, `http_abuse::an_id_that_differs…`, `bodies::sids_cannot_be_guessed…`, `memory::thousands_of_handshakes…` |
//! | CORS for any origin by default | `cors::without_cors_settings…` |
//! | an event handler that fails or panics | `socketio::handlers::a_handler_that_fails…`, `…::a_panicking_handler…` |
//! | huge attachment counts, packets without attachments, invalid placeholders | `socketio::illegal::an_invalid_packet…`, `…are_dropped_with_their_packet`, `bodies::announced_attachments…`, `memory::invalid_packets…` |
//! | event names that are objects, ack ids beyond u64, deep JSON | `socketio::illegal::…is_dropped…`, `bodies::json_that_nests_too_deep…`, `memory::invalid_packets…` |
//! | bodies of 100 MB, with a length and in chunks | `bodies::a_body_of_100_mb…`, `bodies::an_endless_chunked_body…`, `memory::bodies_of_100_mb…` |
//! | payloads of only separators, bad base64, octet-stream, two `sid=` | `bodies::a_payload_of_only_separators…`, `bodies::an_octet_stream…`, `http::an_invalid_payload…`, `http::errors_are_400…` |
//! | reserved bits, also in one write with the handshake | `frames::reserved_bits…` |
//! | reset during the upgrade | `aborted::a_reset_during_the_upgrade…` |
//! | transport=`constructor`, `__proto__` | `http::errors_are_400…` |
//! | floods of pings, pongs, events, acks | `floods::…`, `memory::floods_of_pings_and_pongs…` |
//! | huge and tiny fragments, unbounded messages | `frames::…too_large`, `memory::messages_over_the_limit…`, `memory::memory_of_unfinished_fragments…` |
//! | many headers, huge headers, request lines of megabytes | `http_abuse::oversized_request_headers…`, `bodies::endless_request_headers…`, `memory::memory_of_endless_request_headers…` |
//! | Sec-WebSocket-Protocol and -Extensions of megabytes, or made to backtrack | `http_abuse::huge_or_backtracking…`, `upgrade::large_extension_and_protocol_headers…` |
//! | unfinished frames, fragments, binary packets, POSTs | `memory::memory_of_unfinished…`, `aborted::…`, `frames::an_incomplete_frame…`, `socketio::illegal::an_unfinished_binary_packet…` |
//! | slow request headers, slow bodies | `http_abuse::request_headers_that_do_not_arrive…`, `bodies::a_body_that_arrives_too_slowly…`, `…::a_body_sent_in_small_chunks…` |
//! | 10 000 CONNECTs, CONNECT and DISCONNECT in turn | `floods::ten_thousand…`, `floods::repeated_joining_and_leaving…`, `memory::joining_and_leaving…`, `memory::ten_thousand_connects…` |
//! | credentials of megabytes | `bodies::credentials_of_a_megabyte…`, `memory::invalid_packets…`, `memory::messages_over_the_limit…` |
//! | unlimited rooms | `memory::joining_the_maximum_number_of_rooms…`, `socketio::rooms::rooms_of_a_socket_are_limited…` |
//! | clients that stop reading | `stalled_readers::…` |
//! | logs filled by a flood; disconnects that no log names | `log_volume::…` |

mod aborted;
mod batches;
mod bodies;
mod closes;
mod floods;
mod frames;
mod hosted;
mod http_abuse;
mod log_volume;
mod memory;
mod stalled_readers;
mod ws_negotiation;
