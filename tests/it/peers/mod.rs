//! Bad company: peers that vanish, jam, flood and lie. Afterwards the hub has forgotten them, and serves new clients.
//!
//! Most run against a hub in this process; what is about memory runs against the real binary, whose resident set is
//! measured before and after many rounds (`memory`). What each known attack on servers of this kind is covered by:
//!
//! | attack | tests |
//! |---|---|
//! | weak ids, guessing of sids | `http_abuse::ids_are_random…`, `http_abuse::an_id_that_is_nearly_right…`, `bodies::sids_cannot_be_guessed…`, `memory::guesses_and_handshakes…` |
//! | CORS for everybody by default | `cors::without_cors_no_header_speaks_of_origins` |
//! | an event handler that fails, or panics | `socketio::handlers::a_handler_that_fails…`, `…that_panics…` |
//! | giant attachment counts, zero-attachment packets, placeholders of another type, out of range, negative, fractions | `socketio::illegal::what_is_no_packet…`, `…are_dropped_with_their_packet`, `bodies::announced_attachments…`, `memory::packets_that_are_none…` |
//! | event names that are objects, ack ids beyond u64, deep JSON | `socketio::illegal::…is_dropped…`, `bodies::json_that_nests_too_deep…`, `memory::packets_that_are_none…` |
//! | bodies of 100 MB, with a length and in chunks | `bodies::a_body_of_a_hundred_megabytes…`, `bodies::a_chunked_body_without_end…`, `memory::bodies_of_a_hundred_megabytes…` |
//! | payloads of separators alone, bad base64, octet-stream, two `sid=` | `bodies::a_payload_of_separators…`, `bodies::an_octet_stream…`, `http::what_is_no_payload…`, `http::refusals_are_400…` |
//! | reserved bits, also in the handshake's own write | `frames::reserved_bits…` |
//! | reset during the upgrade | `aborted::a_reset_during_the_upgrade…` |
//! | transport=`constructor`, `__proto__` | `http::refusals_are_400…` |
//! | floods of pings, pongs, events, acks | `floods::…`, `memory::floods_of_pings_and_pongs…` |
//! | huge and tiny fragments, unbounded messages | `frames::…too_large`, `memory::messages_over_the_limit…`, `memory::fragments_that_are_never_completed…` |
//! | many headers, huge headers, request lines of megabytes | `http_abuse::a_head_that_is_too_large…`, `bodies::a_head_that_never_ends…`, `memory::heads_without_end…` |
//! | Sec-WebSocket-Protocol and -Extensions of megabytes, or made to backtrack | `http_abuse::websocket_headers…`, `upgrade::extensions_and_protocols…` |
//! | frames, fragments, binary packets, POSTs that are never completed | `memory::…never_completed_are_given_back`, `aborted::…`, `frames::a_frame_that_is_never_completed…`, `socketio::illegal::a_binary_packet_that_is_never_finished…` |
//! | slow heads, slow bodies | `http_abuse::a_head_that_does_not_come_in_time…`, `bodies::a_body_that_comes_too_slowly…`, `…that_drips…` |
//! | 10 000 CONNECTs, CONNECT and DISCONNECT in turn | `floods::ten_thousand…`, `floods::a_client_that_joins_and_leaves…`, `memory::joining_and_leaving…`, `memory::ten_thousand_connects…` |
//! | credentials of megabytes | `bodies::credentials_of_a_megabyte…`, `memory::packets_that_are_none…`, `memory::messages_over_the_limit…` |
//! | rooms without end | `memory::one_socket_in_as_many_rooms…`, `socketio::rooms::a_socket_may_be_in_so_many_rooms…` |
//! | peers that read nothing, or too late | `stalled_readers::…` |
//! | logs filled by a flood; peers put out that no log names | `log_volume::…` |

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
