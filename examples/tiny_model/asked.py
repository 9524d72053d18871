"""Questions for usual tools by three who had not seen training's: the tool, and the arguments that they give.

A test holds that none of them is in a form that training has. The third's stand in strangers.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def schema(kind: str) -> dict[str, Any]:
    """Of a type, or of one of several words: "large|small". Lists are of strings."""
    if "|" in kind:
        return {"type": "string", "enum": kind.split("|")}
    return {"type": kind, "items": {"type": "string"}} if kind == "array" else {"type": kind}


def function(name: str, about: str, /, **parameters: str) -> dict[str, Any]:
    """Parameters with their types; a ? behind it: may be left out."""
    needed = [key for key, kind in parameters.items() if kind[-1] != "?"]
    properties = {key: schema(kind.rstrip("?")) for key, kind in parameters.items()}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": about,
            "parameters": {"type": "object", "properties": properties, "required": needed},
        },
    }


TOOLS = {  # a question -> the tool for it and its arguments
    "Could you check what the weather is doing in Athens?": ("get_current_weather", dict(location="Athens")),
    "I am in Boston. What's the weather?": ("get_current_weather", dict(location="Boston")),
    "Set an alarm for 7 on Monday.": ("set_alarm", dict(hour=7, day="Monday")),
    "Turn on the lamp in the kitchen.": ("turn_on_lamp", dict(room="kitchen")),
    "Let Anna know by message: dinner is ready": (
        "send_message",
        dict(recipient="Anna", text="dinner is ready"),
    ),
    "What is the stock price of IBM?": ("get_stock_price", dict(symbol="IBM")),
    "We need a table on Friday, 4 people.": ("book_table", dict(people=4, day="Friday")),
    "What would 20 dollars be in euros?": (
        "convert_currency",
        dict(amount=20, source="dollars", target="euros"),
    ),
    "Could you play Yesterday?": ("play_song", dict(title="Yesterday")),
    "Are there flights to Rome from Oslo?": ("find_flights", dict(origin="Oslo", destination="Rome")),
    "Track parcel 8842.": ("track_parcel", dict(tracking_number=8842)),
    "Water the plants in the garden for 10 minutes.": ("water_plants", dict(zone="garden", minutes=10)),
    "Rent a bike in Lyon for 3 days.": ("rent_bike", dict(city="Lyon", days=3)),
    "Lock the front door.": ("lock_door", dict(door="front")),
    "How many calories are in rice?": ("get_calories", dict(food="rice")),
    "Who is the doctor on duty on Tuesday?": ("doctor_on_duty", dict(day="Tuesday")),
    "Order 2 pizzas to Station Road.": ("order_pizza", dict(quantity=2, address="Station Road")),
    "Set the volume to 30 percent.": ("set_volume", dict(percent=30)),
    "Give me the exchange rate of the yen.": ("exchange_rate", dict(currency="yen")),
    "Cancel my reservation K482.": ("cancel_reservation", dict(reservation_id="K482")),
    "Weather for Lisbon in celsius, please.": (
        "get_current_weather",
        dict(location="Lisbon", unit="celsius"),
    ),
    "Could you put lunch with Tom in my calendar, Friday at 12:30?": (
        "create_event",
        dict(title="lunch with Tom", day="Friday", time="12:30"),
    ),
    "Don't let me forget to buy stamps at 6 pm.": (
        "create_reminder",
        dict(text="buy stamps", time="6 pm"),
    ),
    "We are out of milk, bread and eggs.": ("add_items", dict(items=["milk", "bread", "eggs"])),
    "Make a meeting Budget and invite Anna and Tom.": (
        "create_meeting",
        dict(title="Budget", attendees=["Anna", "Tom"]),
    ),
    "Please switch the heating in the bedroom off.": ("set_heating", dict(room="bedroom", on=False)),
    "The heating in the office should be on.": ("set_heating", dict(room="office", on=True)),
    "Search online for red shoes.": ("web_search", dict(query="red shoes")),
    "Search online for red shoes, 5 results.": ("web_search", dict(query="red shoes", max_results=5)),
    "Please open notes.txt for me.": ("read_file", dict(path="notes.txt")),
    "Store hello in notes.txt.": ("write_file", dict(path="notes.txt", content="hello")),
    "Let Python do print(1+1).": ("run_python", dict(code="print(1+1)")),
    "Could you add 12 and 30?": ("add", dict(a=12, b=30)),
    "What is 7 multiplied by 6?": ("multiply", dict(a=7, b=6)),
    "Any mail about invoices?": ("search_emails", dict(query="invoices")),
}
SCHEMAS = [
    function(
        "get_current_weather",
        "Get the current weather in a location",
        location="string",
        unit="celsius|fahrenheit?",
    ),
    function("set_alarm", "Set an alarm", hour="integer", day="string"),
    function("turn_on_lamp", "Turn on the lamp of a room", room="string"),
    function("send_message", "Send a text message to someone", recipient="string", text="string"),
    function("get_stock_price", "Current price of a stock", symbol="string"),
    function("book_table", "Book a table in the restaurant", people="integer", day="string"),
    function("convert_currency", "Convert money", amount="number", source="string", target="string"),
    function("play_song", "Play a song", title="string"),
    function("find_flights", "Search for flights", origin="string", destination="string"),
    function("track_parcel", "Where a parcel is", tracking_number="integer"),
    function("water_plants", "Waters a zone of the garden system", zone="string", minutes="integer"),
    function("rent_bike", "Rent a bike in a city", city="string", days="integer"),
    function("lock_door", "Lock a door of the house", door="string"),
    function("get_calories", "Calories of a food", food="string"),
    function("doctor_on_duty", "Find the doctor on duty", day="string"),
    function("order_pizza", "Order pizza to an address", quantity="integer", address="string"),
    function("set_volume", "Set the volume of the speaker", percent="integer"),
    function("exchange_rate", "Exchange rate of a currency", currency="string"),
    function("cancel_reservation", "Cancel a reservation", reservation_id="string"),
    function("create_event", "Create a calendar event", title="string", day="string", time="string"),
    function("create_reminder", "Create a reminder", text="string", time="string", repeat="boolean?"),
    function("add_items", "Add items to the shopping list", items="array"),
    function("create_meeting", "Create a meeting", title="string", attendees="array", room="string?"),
    function("set_heating", "Switch the heating of a room on or off", room="string", on="boolean"),
    function("web_search", "Search the web", query="string", max_results="integer?"),
    function("read_file", "Read a file", path="string", encoding="string?"),
    function("write_file", "Write a file", path="string", content="string"),
    function("run_python", "Run Python code", code="string"),
    function("add", "Add two numbers", a="number", b="number"),
    function("multiply", "Multiply two numbers", a="number", b="number"),
    function("search_emails", "Search the mailbox", query="string", folder="string?"),
]

OTHERS = {  # by another
    "Is it raining in Lisbon right now?": ("get_current_weather", dict(location="Lisbon")),
    "Outside temperature in Denver in fahrenheit, please.": (
        "get_current_weather",
        dict(location="Denver", unit="fahrenheit"),
    ),
    "Add an event called Team Lunch to my calendar for Friday.": (
        "create_calendar_event",
        dict(title="Team Lunch", date="Friday"),
    ),
    "New calendar entry: Dentist, Tuesday, 15:30": (
        "create_calendar_event",
        dict(title="Dentist", date="Tuesday", time="15:30"),
    ),
    "Email anna@example.com with the subject Invoice.": (
        "send_email",
        dict(to="anna@example.com", subject="Invoice"),
    ),
    "Can you send a mail to bob@acme.org, subject Holiday Plans?": (
        "send_email",
        dict(to="bob@acme.org", subject="Holiday Plans"),
    ),
    "Show me what is inside config.yaml.": ("read_file", dict(path="config.yaml")),
    "Please open report.txt and tell me what it says.": ("read_file", dict(path="report.txt")),
    "Write hello world into greeting.txt.": ("write_file", dict(path="greeting.txt", content="hello world")),
    "Create a file status.md that contains work in progress.": (
        "write_file",
        dict(path="status.md", content="work in progress"),
    ),
    "Run git status in the terminal.": ("run_shell_command", dict(command="git status")),
    "Could you execute df -h on the shell?": ("run_shell_command", dict(command="df -h")),
    "Can you google vegan lasagna for me?": ("web_search", dict(query="vegan lasagna")),
    "Switch the light in the kitchen on.": ("set_light", dict(room="kitchen", on=True)),
    "Set the thermostat to 21 degrees.": ("set_thermostat", dict(temperature=21)),
    "It is cold, heat the office to 19.5 degrees.": ("set_thermostat", dict(temperature=19.5, room="office")),
    "Play something by Radiohead.": ("play_music", dict(artist="Radiohead")),
    "I would like to hear Halo by Beyonce.": ("play_music", dict(artist="Beyonce", song="Halo")),
    "Put milk, butter and rice on my shopping list.": (
        "add_to_shopping_list",
        dict(items=["milk", "butter", "rice"]),
    ),
    "We are out of apples and cheese, shopping list please.": (
        "add_to_shopping_list",
        dict(items=["apples", "cheese"]),
    ),
    "What is TSLA trading at?": ("get_stock_price", dict(symbol="TSLA")),
    "Current share price of NVDA?": ("get_stock_price", dict(symbol="NVDA")),
    "How much is 250 USD in EUR?": (
        "convert_currency",
        dict(amount=250, from_currency="USD", to_currency="EUR"),
    ),
    "Find me flights from Boston to Madrid.": ("search_flights", dict(origin="Boston", destination="Madrid")),
    "Are there any flights from Oslo to Rome on Sunday?": (
        "search_flights",
        dict(origin="Oslo", destination="Rome", date="Sunday"),
    ),
    "Book me a hotel in Vienna for 3 nights.": ("book_hotel", dict(city="Vienna", nights=3)),
    "I need a hotel room: Prague, 2 nights, 4 guests.": (
        "book_hotel",
        dict(city="Prague", nights=2, guests=4),
    ),
    "Multiply 6.5 by 12 for me.": ("multiply", dict(a=6.5, b=12)),
    "Fetch 10 rows of the table orders.": ("get_table_rows", dict(table="orders", limit=10)),
    "Can I see 25 rows from the customers table?": ("get_table_rows", dict(table="customers", limit=25)),
    "Make a note titled Ideas that says try the new cafe.": (
        "create_note",
        dict(title="Ideas", text="try the new cafe"),
    ),
    "New note, title Garage, text: the code has changed": (
        "create_note",
        dict(title="Garage", text="the code has changed"),
    ),
    "Start a timer for 12 minutes.": ("set_timer", dict(minutes=12)),
    "I need a 45 minutes timer named laundry.": ("set_timer", dict(minutes=45, label="laundry")),
    "Show me the way from Lyon to Geneva on the map.": (
        "get_directions",
        dict(origin="Lyon", destination="Geneva"),
    ),
    "Give me walking directions from Central Park to Times Square.": (
        "get_directions",
        dict(origin="Central Park", destination="Times Square", mode="walking"),
    ),
    "Open an issue in acme/webapp titled Login fails.": (
        "create_issue",
        dict(repo="acme/webapp", title="Login fails"),
    ),
    "GitHub issue for octo/parser, please: Crash on empty input": (
        "create_issue",
        dict(repo="octo/parser", title="Crash on empty input"),
    ),
    "Translate good morning into Spanish.": (
        "translate_text",
        dict(text="good morning", target_language="Spanish"),
    ),
    "How do you say thank you in Japanese?": (
        "translate_text",
        dict(text="thank you", target_language="Japanese"),
    ),
    "Could you set a reminder to feed the cat for 7:30?": (
        "create_reminder",
        dict(text="feed the cat", time="7:30"),
    ),
    "What's the phone number of Maria Lopez?": ("find_contact", dict(name="Maria Lopez")),
    "Look up Kevin in my contacts.": ("find_contact", dict(name="Kevin")),
    "Tell me the local time in Sydney.": ("get_current_time", dict(city="Sydney")),
    "Wake me up at 6:45.": ("set_alarm", dict(time="6:45")),
    "Alarm at 8:15 on Monday and Thursday.": ("set_alarm", dict(time="8:15", days=["Monday", "Thursday"])),
    'Post "build is green" in the Slack channel releases.': (
        "post_message",
        dict(channel="releases", text="build is green"),
    ),
    "Please tell the design channel on Slack: mockups are ready": (
        "post_message",
        dict(channel="design", text="mockups are ready"),
    ),
    "Where is my parcel 1Z4478?": ("track_package", dict(tracking_number="1Z4478")),
    "Has package RX902155 been delivered yet?": ("track_package", dict(tracking_number="RX902155")),
    "I want to buy a coffee grinder.": ("search_products", dict(query="coffee grinder")),
    "Which running shoes do you sell for at most 90 dollars?": (
        "search_products",
        dict(query="running shoes", max_price=90),
    ),
    "Turn on do not disturb.": ("set_do_not_disturb", dict(enabled=True)),
    "Do not disturb can go off again.": ("set_do_not_disturb", dict(enabled=False)),
}
OTHER_SCHEMAS = [
    function(
        "get_current_weather",
        "Get the current weather in a location",
        location="string",
        unit="celsius|fahrenheit?",
    ),
    function(
        "create_calendar_event",
        "Create an event in the user's calendar",
        title="string",
        date="string",
        time="string?",
    ),
    function("send_email", "Send an email to a recipient", to="string", subject="string", body="string?"),
    function("read_file", "Read the contents of a file", path="string"),
    function("write_file", "Write text to a file, creating it if needed", path="string", content="string"),
    function("run_shell_command", "Execute a command in the shell and return its output", command="string"),
    function("web_search", "Search the web for information", query="string"),
    function("set_light", "Turn the light in a room on or off", room="string", on="boolean"),
    function(
        "set_thermostat", "Set the target temperature of the heating", temperature="number", room="string?"
    ),
    function("play_music", "Play music by an artist", artist="string", song="string?"),
    function("add_to_shopping_list", "Add items to the shopping list", items="array"),
    function("get_stock_price", "Get the current price of a stock by its ticker symbol", symbol="string"),
    function(
        "convert_currency",
        "Convert an amount of money from one currency to another",
        amount="number",
        from_currency="string",
        to_currency="string",
    ),
    function(
        "search_flights",
        "Search for flights between two cities",
        origin="string",
        destination="string",
        date="string?",
    ),
    function("book_hotel", "Book a hotel room in a city", city="string", nights="integer", guests="integer?"),
    function("multiply", "Multiply two numbers", a="number", b="number"),
    function("get_table_rows", "Return rows from a database table", table="string", limit="integer"),
    function("create_note", "Create a new note with a title and a text", title="string", text="string"),
    function("set_timer", "Start a countdown timer", minutes="integer", label="string?"),
    function(
        "get_directions",
        "Get the route between two places",
        origin="string",
        destination="string",
        mode="driving|walking|cycling?",
    ),
    function(
        "create_issue",
        "Create a new issue in a GitHub repository",
        repo="string",
        title="string",
        labels="array?",
    ),
    function(
        "translate_text", "Translate a text into another language", text="string", target_language="string"
    ),
    function("create_reminder", "Remind the user of something at a given time", text="string", time="string"),
    function("find_contact", "Find a person in the address book", name="string"),
    function("get_current_time", "Get the current local time in a city", city="string"),
    function("set_alarm", "Set an alarm clock", time="string", days="array?"),
    function("post_message", "Post a message to a Slack channel", channel="string", text="string"),
    function("track_package", "Get the delivery status of a package", tracking_number="string"),
    function(
        "search_products", "Search for products in the online shop", query="string", max_price="number?"
    ),
    function("set_do_not_disturb", "Turn do not disturb mode on or off", enabled="boolean"),
]

WRITTEN = json.loads(Path(__file__).with_name("strangers.json").read_text(encoding="utf-8"))
STRANGERS = {question: (name, arguments) for question, name, arguments in WRITTEN["asked"]}
STRANGER_SCHEMAS = [{"type": "function", "function": tool} for tool in WRITTEN["tools"]]
