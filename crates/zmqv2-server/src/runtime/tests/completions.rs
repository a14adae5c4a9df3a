use super::*;

fn ends(bound: usize) -> (CompletionSender, CompletionQueue) {
    channel(bound, &Arc::new(RegistrationWaker::new().unwrap()))
}

/// Begins and ends a notification, as a worker does.
fn end(sender: &CompletionSender, tag: u64, requeue: bool) {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let deadline = Instant::now();
    let key = TopicKey::parse("e/t").unwrap();
    let requeue = requeue.then(|| Frame::from("body"));
    sender.begin();
    sender.send(Completion::Notification { id: MessageId::random(), tag, key, deadline, requeue });
}

/// The tags of what is sent when the socket takes `room` messages.
fn flush(queue: &mut CompletionQueue, accepted: bool, room: usize) -> Vec<u64> {
    let mut sent = Vec::new();
    let any = queue.flush(accepted, |completion| {
        let Completion::Notification { tag, .. } = completion else { panic!("{completion:?}") };
        if sent.len() < room {
            sent.push(*tag);
            return true;
        }
        false
    });
    assert_eq!(any, !sent.is_empty());
    sent
}

#[test]
fn without_a_broker_only_requeued_notifications_are_kept() {
    let (sender, mut queue) = ends(8);
    for tag in 0..6 {
        end(&sender, tag, tag % 3 == 0);
    }
    assert_eq!(queue.outstanding(), 6);
    queue.keep_for_next_broker();
    assert_eq!(queue.outstanding(), 2);
    end(&sender, 6, false);
    assert_eq!(flush(&mut queue, false, 8), [6]);
    assert_eq!(flush(&mut queue, true, 8), [0, 3]);
    assert_eq!(queue.outstanding(), 0);
}

#[test]
fn the_end_of_a_later_delivery_does_not_overtake_an_earlier_requeue() {
    let (sender, mut queue) = ends(8);
    end(&sender, 0, true);
    queue.keep_for_next_broker();
    let Some(Completion::Notification { id, key, deadline, .. }) = queue.unsent.front() else {
        panic!("the queue is empty")
    };
    sender.begin();
    let (id, key, deadline) = (*id, key.clone(), *deadline);
    sender.send(Completion::Notification { id, tag: 1, key, deadline, requeue: None });
    end(&sender, 2, false);
    assert_eq!(flush(&mut queue, false, 8), [2]);
    assert_eq!(flush(&mut queue, true, 8), [0, 1]);
}

#[test]
fn completions_that_the_socket_did_not_take_are_sent_later_in_order() {
    let (sender, mut queue) = ends(8);
    for tag in 0..4 {
        end(&sender, tag, tag == 1);
    }
    assert_eq!(flush(&mut queue, true, 1), [0]);
    assert!(flush(&mut queue, true, 0).is_empty());
    assert_eq!(flush(&mut queue, true, 8), [1, 2, 3]);
}

#[test]
fn the_queue_is_bounded_and_running_requests_are_outstanding() {
    let (sender, mut queue) = ends(2);
    sender.begin();
    for tag in [0, 1] {
        end(&sender, tag, true);
    }
    queue.keep_for_next_broker();
    for tag in [2, 3] {
        end(&sender, tag, true);
    }
    queue.keep_for_next_broker();
    // A fifth send would wait.
    assert_eq!((queue.unsent.len(), queue.channel.len(), queue.outstanding()), (2, 2, 5));
    assert_eq!(flush(&mut queue, true, 8), [0, 1]);
    assert_eq!(flush(&mut queue, true, 8), [2, 3]);
    assert_eq!(queue.outstanding(), 1);
}
