//! HTTP as authors of plugins do it: with a client that others wrote.

use taskhost::task;
use wstd::http::{Body, Client, Request};
use wstd::runtime::block_on;

use crate::shown;

/// Sends a text, if there is one, and gives back the status and the text that comes.
#[task(name = "net.send")]
pub(crate) fn send(url: &str, #[default] text: &str) -> Result<(u16, String), String> {
    let request = match text {
        "" => Request::get(url).body(Body::empty()),
        text => Request::post(url).header("content-type", "text/plain").body(Body::from(text.to_owned())),
    };
    let request = request.map_err(shown)?;
    block_on(async {
        let response = Client::new().send(request).await.map_err(shown)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let text = body.str_contents().await.map_err(shown)?.to_owned();
        Ok((status, text))
    })
}
