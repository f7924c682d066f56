//! The command line of wsson.

use wsson::daemon::messages::Messages;
use wsson::{Server, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, command, _, path] = &arguments[..] else { return Err("usage: wsson run -c FILE".into()) };
    assert_eq!(command, "run");
    let text = std::fs::read_to_string(path)?;
    let base = std::path::Path::new(path).parent().ok_or("no folder")?;
    let mut settings = Settings::parse(&text, base).map_err(|errors| errors[0].to_string())?;
    for file in &settings.secret_files {
        settings.auth.secrets.push(wsson::auth::Secret::new(std::fs::read(file)?.trim_ascii().to_vec()));
    }
    let mut server = Server::bind(&settings, Messages { on_message: settings.on_message })?;
    server.handle_signals()?;
    Ok(server.run()?)
}
